"""The CNN as it was given: three convolutions of 32, 16 and 16, then 512, 256 and one sigmoid."""

import io
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers

from worker.radiograph import SIZE

PARAMETERS = 1_744_993


def build() -> keras.Model:
    """Return the untrained network: (n, SIZE, SIZE, 1) grey levels 0-255 to (n, 1) probability of COVID-19."""
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1), name="radiograph"),
            layers.Rescaling(1 / 255, name="scale"),
            layers.Conv2D(32, (3, 3), activation="relu", name="conv_32"),
            layers.MaxPooling2D(name="pool_1"),
            layers.Conv2D(16, (3, 3), activation="relu", name="conv_16_a"),
            layers.MaxPooling2D(name="pool_2"),
            layers.Conv2D(16, (3, 3), activation="relu", name="conv_16_b"),
            layers.MaxPooling2D(name="pool_3"),
            layers.Flatten(name="flatten"),
            layers.Dense(512, activation="relu", name="dense_512"),
            layers.Dense(256, activation="relu", name="dense_256"),
            layers.Dense(1, activation="sigmoid", name="covid"),
        ],
        name="cxr_cnn",
    )


def weights_to_bytes(model: keras.Model) -> bytes:
    """Return the weights as a zip of plain arrays: nothing in it can run."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(variable.value) for name, variable in _named(model)}
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def load_weights(model: keras.Model, data: bytes) -> None:
    """Put the weights into the architecture above; raises ValueError if they belong to another."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        names = [name for name, _ in _named(model)]
        if sorted(arrays.files) != sorted(names):
            raise ValueError("these weights belong to another architecture")
        model.set_weights([arrays[name] for name in names])


def _named(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """The variables under names that a zip archive takes, such as conv_32.kernel."""
    return ((variable.path.replace("/", "."), variable) for variable in model.weights)
