"""Light changes of a training radiograph, drawn anew every epoch from the seed."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from worker.radiograph import SIZE


@dataclass(frozen=True)
class Strength:
    """Largest change: shift and zoom as fractions, turn in radians, brightness in grey levels, contrast as fraction."""

    shift: float = 0.06
    turn: float = 0.09
    zoom: float = 0.08
    brightness: float = 20.0
    contrast: float = 0.2


def dataset(arrays: tuple[Any, Any, Any], *, batch_size: int, seed: int, strength: Strength) -> Any:
    """Return shuffled batches of `arrays`: (n, SIZE, SIZE, 1) grey levels 0-255, changed, with their labels and weights."""
    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)
    batches = (
        tf.data.Dataset.from_tensor_slices(arrays)
        .shuffle(len(arrays[0]), seed=seed, reshuffle_each_iteration=True)
        .batch(batch_size)
    )

    def change(batch: tuple[Any, Any, Any], seed_pair: Any) -> tuple[Any, Any, Any]:
        greys, truth, weight = batch
        return _changed(greys, tf.bitcast(seed_pair, tf.int64), strength), truth, weight

    changed = tf.data.Dataset.zip((batches, seeds)).map(change, num_parallel_calls=2, deterministic=True)
    return changed.prefetch(2)


def _changed(greys: Any, seed: Any, strength: Strength) -> Any:
    count = tf.shape(greys)[0]
    # One row of numbers in -1 to 1 for each radiograph: shift in x and y, turn, zoom, brightness, contrast.
    draws = tf.random.stateless_uniform((count, 6), seed, -1.0, 1.0)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(greys, tf.float32),
        transforms=_transforms(draws, strength),
        output_shape=(SIZE, SIZE),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    brightness = tf.reshape(draws[:, 4] * strength.brightness, (-1, 1, 1, 1))
    contrast = tf.reshape(1 + draws[:, 5] * strength.contrast, (-1, 1, 1, 1))
    mean = tf.reduce_mean(moved, axis=(1, 2, 3), keepdims=True)
    return tf.clip_by_value((moved - mean) * contrast + mean + brightness, 0.0, 255.0)


def _transforms(draws: Any, strength: Strength) -> Any:
    """Return (n, 8) projective transforms that turn and zoom about the centre, then shift."""
    angle, zoom = draws[:, 2] * strength.turn, 1 + draws[:, 3] * strength.zoom
    cosine, sine = tf.cos(angle) * zoom, tf.sin(angle) * zoom
    centre = (SIZE - 1) / 2
    right = centre - cosine * centre + sine * centre + draws[:, 0] * strength.shift * SIZE
    down = centre - sine * centre - cosine * centre + draws[:, 1] * strength.shift * SIZE
    zero = tf.zeros_like(angle)
    return tf.stack([cosine, -sine, right, sine, cosine, down, zero, zero], axis=1)
