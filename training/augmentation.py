"""The batches of an epoch: radiographs drawn by their shares, in one of their exposures, moved anew from the seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.config import Strength
from worker.radiograph import SIZE


@dataclass(frozen=True)
class Drawn:
    """`pictures` (n, exposures, SIZE, SIZE, channels) grey levels 0-255, `truth` (n, any), and the `shares` (n,) that add up to 1."""

    pictures: NDArray[np.uint8]
    truth: NDArray[np.float32]
    shares: NDArray[np.float64]


def dataset(drawn: Drawn, *, batch_size: int, seed: int, strength: Strength) -> Any:
    """Return batches of pictures and truth; an epoch has as many pictures as there are radiographs."""
    random = np.random.default_rng(seed)
    count, exposures = drawn.pictures.shape[:2]

    def batches() -> Iterator[tuple[Any, Any, Any]]:
        for _ in range(steps(count, batch_size)):
            chosen = random.choice(count, batch_size, p=drawn.shares)
            exposure = random.integers(0, exposures, batch_size)
            yield drawn.pictures[chosen, exposure], drawn.truth[chosen], random.integers(0, 2**62, 2)

    signature = (
        tf.TensorSpec((batch_size, *drawn.pictures.shape[2:]), tf.uint8),
        tf.TensorSpec((batch_size, *drawn.truth.shape[1:]), tf.float32),
        tf.TensorSpec((2,), tf.int64),
    )

    def change(pictures: Any, truth: Any, seed_pair: Any) -> tuple[Any, Any]:
        return changed(pictures, seed_pair, strength), truth

    drawing = tf.data.Dataset.from_generator(batches, output_signature=signature)
    counted = drawing.apply(tf.data.experimental.assert_cardinality(steps(count, batch_size)))
    return counted.map(change, num_parallel_calls=1, deterministic=True).prefetch(2)


def steps(count: int, batch_size: int) -> int:
    """Return how many batches an epoch over `count` radiographs has."""
    return max(1, count // batch_size)


def changed(pictures: Any, seed: Any, strength: Strength) -> Any:
    """Return (n, SIZE, SIZE, 1) float32: each moved, mirrored or not, of another contrast, with noise."""
    seeds = tf.random.split(seed, 2)
    count = tf.shape(pictures)[0]
    # One row of numbers in -1 to 1 for each radiograph: shift in x and y, turn, zoom, mirror, contrast.
    draws = tf.random.stateless_uniform((count, 6), seeds[0], -1.0, 1.0)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(pictures, tf.float32),
        transforms=_transforms(draws, strength),
        output_shape=(SIZE, SIZE),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    contrast = tf.reshape(1 + draws[:, 5] * strength.contrast, (-1, 1, 1, 1))
    noise = tf.random.stateless_normal(tf.shape(moved), seeds[1]) * strength.noise
    middle = 127.5  # where ranks have their mean, and a picture without lungs its only level
    return (moved - middle) * contrast + middle + noise


def _transforms(draws: Any, strength: Strength) -> Any:
    """Return (n, 8) projective transforms that turn, zoom and mirror about the centre, then shift."""
    angle, zoom = draws[:, 2] * strength.turn, 1 + draws[:, 3] * strength.zoom
    side = tf.where((draws[:, 4] < 0) & strength.mirror, -1.0, 1.0)
    cosine, sine = tf.cos(angle) * zoom, tf.sin(angle) * zoom
    centre = (SIZE - 1) / 2
    right = centre - cosine * side * centre + sine * centre + draws[:, 0] * strength.shift * SIZE
    down = centre - sine * side * centre - cosine * centre + draws[:, 1] * strength.shift * SIZE
    zero = tf.zeros_like(angle)
    return tf.stack([cosine * side, -sine, right, sine * side, cosine, down, zero, zero], axis=1)
