"""Trains the lung segmenter on the masks: `python -m training.segment --data DIR --out DIR`."""

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from terminal import answers, words
from training import anatomy, data, index, probes, scenes
from training.data import Radiographs
from worker import cnn, lungs
from worker.device import quiet
from worker.lungs import Segmenter
from worker.radiograph import SIZE

RECORD: Final = "lungs.json"

_FLAT: Final = 1e-3  # of Dice, for pictures without lungs

Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class Config:
    """Everything that decides the outcome; recorded beside the weights."""

    seed: int = 7
    epochs: int = 110
    batch_size: int = 32
    learning_rate: float = 2e-3
    training_folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    test_fold: int = 5
    phantoms: int = 60
    strangers: int = 6
    """Pictures without lungs that are added to each batch."""


def fit(radiographs: Radiographs, config: Config, on_epoch: Callable[[int, float], None] | None = None) -> bytes:
    """Return the weights of a network trained on the training folds and on phantoms, the same for a seed."""
    keras.utils.set_random_seed(config.seed)
    training = radiographs.folds(*config.training_folds)
    drawn, theirs = _phantoms(config.phantoms)
    greys, masks = np.concatenate([training.greys, drawn]), np.concatenate([training.masks, theirs])
    steps = len(greys) // config.batch_size
    model = lungs.build()
    model.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(config.learning_rate, config.epochs * steps)
        ),
        loss=_loss,
    )
    model.fit(
        _batches(greys, masks, config),
        epochs=config.epochs,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: on_epoch(epoch + 1, logs["loss"]))]
        if on_epoch
        else [],
    )
    return cnn.weights_to_bytes(model)


def dice(maps: NDArray[np.float32], masks: Masks) -> NDArray[np.float64]:
    """Return 2 |A and B| / (|A| + |B|) of each map (n, SIDE, SIDE) against its mask (n, SIZE, SIZE). Dice 1945."""
    found = probes.enlarged(maps) >= lungs.LUNG
    both = (found & masks).sum(axis=(1, 2))
    return np.asarray(2 * both / np.maximum(found.sum(axis=(1, 2)) + masks.sum(axis=(1, 2)), 1))


def measure(radiographs: Radiographs, weights: bytes, config: Config) -> dict[str, dict[str, float]]:
    """Return the Dice on the test fold, apart for those who drew the masks."""
    held_out = radiographs.folds(config.test_fold)
    scores = dice(Segmenter(weights, batch_size=64).segment(held_out.greys), held_out.masks)
    by = np.array([entry.mask_by for entry in held_out.entries])
    return {
        str(name) or "unstated": {"images": len(some), "mean": float(some.mean()), "lowest": float(some.min())}
        for name in np.unique(by)
        for some in [scores[by == name]]
    }


def save(directory: Path, radiographs: Radiographs, weights: bytes, config: Config) -> dict[str, Any]:
    """Write lungs.npz and lungs.json, and return what stands in the second."""
    record = {
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "data_fingerprint": radiographs.fingerprint,
        "config": asdict(config),
        "dice": measure(radiographs, weights, config),
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / lungs.WEIGHTS.name).write_bytes(weights)
    (directory / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def read(directory: Path) -> dict[str, Any]:
    """Return what `save` recorded there."""
    record: dict[str, Any] = json.loads((directory / RECORD).read_text(encoding="utf-8"))
    return record


def main() -> None:
    """Train and save; WEIGHTS_SHA256 in worker/lungs.py is then changed by hand."""
    parser = argparse.ArgumentParser(prog="python -m training.segment", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=Config.epochs)
    parser.add_argument("--seed", type=int, default=Config.seed)
    given = parser.parse_args()
    quiet()
    config = Config(seed=given.seed, epochs=given.epochs)
    radiographs = data.load(given.data, index.index(given.data))
    weights = fit(radiographs, config, lambda epoch, loss: words.print(f"epoch {epoch}: loss {loss:.4f}"))
    answers.print_json(data=save(given.out, radiographs, weights, config))


def _phantoms(count: int) -> tuple[NDArray[np.uint8], Masks]:
    """Phantoms too, so that demonstrations pass the same gate; fewer than one picture in twenty."""
    drawings = [anatomy.draw(1_000_000 + seed, size=2 * SIZE) for seed in range(count)]
    greys = [Image.fromarray(drawing.grey).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for drawing in drawings]
    masks = [drawing.lungs[::2, ::2] for drawing in drawings]
    return np.stack([np.asarray(grey) for grey in greys]), np.stack(masks)


def _batches(greys: NDArray[np.uint8], masks: Masks, config: Config) -> Any:
    seeds = tf.data.Dataset.random(seed=config.seed, rerandomize_each_iteration=True).batch(2)
    pairs = (
        tf.data.Dataset.from_tensor_slices((greys[..., np.newaxis], masks[..., np.newaxis]))
        .shuffle(len(greys), seed=config.seed, reshuffle_each_iteration=True)
        .batch(config.batch_size, drop_remainder=True)
    )

    def scene(pair: tuple[Any, Any], seed: Any) -> tuple[Any, Any]:
        first, second = tf.unstack(tf.random.split(tf.bitcast(seed, tf.int64), 2))
        pictures, lung = scenes.changed(*pair, first)
        others = scenes.strangers(pair[0][: config.strangers], second)
        lung = tf.concat([lung, tf.zeros_like(others)], 0)
        return _standardised(tf.concat([pictures, others], 0)), tf.nn.avg_pool2d(lung, 2, 2, "VALID")

    changed = tf.data.Dataset.zip((pairs, seeds)).map(scene, num_parallel_calls=2, deterministic=True)
    return changed.prefetch(2)


def _standardised(pictures: Any) -> Any:
    """The same as `lungs.standardised`, inside the graph."""
    sums = 4 * tf.nn.avg_pool2d(tf.round(pictures), 2, 2, "VALID")
    mean, variance = tf.nn.moments(sums, (1, 2), keepdims=True)
    return (sums - mean) / (tf.sqrt(variance) + lungs.FLAT)


def _loss(truth: Any, found: Any) -> Any:
    """Cross-entropy, and what is missing of the Dice where there are lungs."""
    entropy = tf.reduce_mean(keras.losses.binary_crossentropy(truth, found), (1, 2))
    both, all_of_both = tf.reduce_mean(truth * found, (1, 2, 3)), tf.reduce_mean(truth + found, (1, 2, 3))
    missing = 1 - 2 * both / (all_of_both + _FLAT)
    has_lungs = tf.cast(tf.reduce_any(truth > 0, (1, 2, 3)), tf.float32)
    return entropy + 0.5 * missing * has_lungs


if __name__ == "__main__":
    main()
