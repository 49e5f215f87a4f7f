"""Finds the lungs in a radiograph, with a network small enough to run before every score."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from worker import cnn
from worker.forward import Forward
from worker.radiograph import SIZE, Grey

SIDE: Final = SIZE // 2
"""Edge of the maps, in pixels: half the radiograph's."""

WEIGHTS: Final = Path(__file__).with_suffix(".npz")
WEIGHTS_SHA256: Final = "4fd4a55dcf33f28ad85813489f2b5660d8b2afbc9071943a165e33d452291caa"

LUNG: Final = 0.5
"""A pixel is lung from this probability on; trained for it."""

FLAT: Final = 4.0  # grey levels, of a sum of four: keeps a picture without contrast from being blown up

Maps = NDArray[np.float32]


class SegmenterDamaged(Exception):
    """The weights are not those that this code was written for; install the program again."""


@dataclass(frozen=True)
class Box:
    """Edges of the lungs as fractions of the picture: left <= x < right, top <= y < bottom."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Findings:
    """What a map says of its picture. Shares are 0 to 1; `sure` is the mean probability inside what is called lung."""

    area: float
    sure: float
    left_share: float
    box: Box | None


class Segmenter:
    """The network with these weights, compiled and warmed up; for the shipped ones give `weights()`."""

    def __init__(self, data: bytes, *, batch_size: int) -> None:
        model = build()
        cnn.load_weights(model, data)
        self._forward = Forward(model, np.float32, batch_size=batch_size)

    def segment(self, greys: NDArray[np.uint8] | Sequence[Grey]) -> Maps:
        """Return (n, SIDE, SIDE): how probably each pixel of (n, SIZE, SIZE) grey levels is lung, 0 to 1."""
        stacked = np.asarray(greys, np.uint8).reshape(-1, SIZE, SIZE)
        parts = [self._forward(standardised(stacked[chunk]))[..., 0] for chunk in self._forward.chunks(len(stacked))]
        return np.concatenate(parts) if parts else np.empty((0, SIDE, SIDE), np.float32)


def weights() -> bytes:
    """Return the weights that this code was written for, or raise SegmenterDamaged."""
    data = WEIGHTS.read_bytes()
    if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
        raise SegmenterDamaged(f"{WEIGHTS.name} is not what this version was built with: install it again")
    return data


def build() -> keras.Model:
    """Return the untrained network: (n, SIDE, SIDE, 1) as `standardised` makes it to (n, SIDE, SIDE, 1) probability.

    A U-Net (Ronneberger 2015) that leaves out its first level on the way up: the last convolution writes 4x4 pixels at
    once, in channels that are then laid out (Shi 2016), for the largest planes would cost most of the time.
    """
    picture = keras.Input((SIDE, SIDE, 1), name="picture")
    half = _convolution(picture, 12, name="down_1", size=4, strides=2)
    quarter = _twice(half, 32, name="down_2", strides=2)
    eighth = _twice(quarter, 48, name="down_3", strides=2)
    deepest = _twice(eighth, 64, name="down_4", strides=2)
    up = _convolution(_beside(deepest, eighth), 48, name="up_3")
    up = _convolution(_beside(up, quarter), 32, name="up_2")
    tiles = layers.Conv2D(16, 1, activation="sigmoid", name="lungs")(up)
    rows = layers.Permute((1, 3, 2, 4))(layers.Reshape((SIDE // 4, SIDE // 4, 4, 4))(tiles))
    return keras.Model(picture, layers.Reshape((SIDE, SIDE, 1))(rows), name="cxr_lungs")


def standardised(greys: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (n, SIDE, SIDE, 1) of mean 0 and spread 1 for each picture of (n, SIZE, SIZE), halved by averaging."""
    levels = greys.astype(np.uint16)
    rows = levels[:, ::2] + levels[:, 1::2]
    sums = (rows[:, :, ::2] + rows[:, :, 1::2]).astype(np.float32)
    sums -= sums.mean(axis=(1, 2), keepdims=True)
    spread = np.sqrt(np.einsum("nyx,nyx->n", sums, sums) / SIDE**2)
    sums /= (spread + FLAT)[:, np.newaxis, np.newaxis]
    return sums[..., np.newaxis]


def findings(probability: NDArray[np.float32]) -> Findings:
    """Return what one map of (SIDE, SIDE) says; the box is None where nothing is lung."""
    lung = probability >= LUNG
    if not lung.any():
        return Findings(area=0.0, sure=0.0, left_share=0.0, box=None)
    across, down = np.flatnonzero(lung.any(axis=0)), np.flatnonzero(lung.any(axis=1))
    edges = (across[0], down[0], across[-1] + 1, down[-1] + 1)
    return Findings(
        area=float(lung.mean()),
        sure=float(probability[lung].mean()),
        left_share=float(lung[:, : SIDE // 2].sum() / lung.sum()),
        box=Box(*(float(edge) / SIDE for edge in edges)),
    )


def _twice(picture: Any, channels: int, *, name: str, strides: int) -> Any:
    first = _convolution(picture, channels, name=f"{name}_a", strides=strides)
    return _convolution(first, channels, name=f"{name}_b")


def _convolution(picture: Any, channels: int, *, name: str, size: int = 3, strides: int = 1) -> Any:
    return layers.Conv2D(channels, size, strides=strides, padding="same", activation="relu", name=name)(picture)


def _beside(coarse: Any, fine: Any) -> Any:
    return layers.Concatenate()([layers.UpSampling2D(2)(coarse), fine])
