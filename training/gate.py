"""Trains the gate on frontal chest X-rays and strangers: `python -m training.gate DATA` writes worker/gate.*."""

import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training import data, pictures
from training.index import index
from training.strangers import Pictures, lit, strangers
from worker import cnn, gate
from worker.radiograph import SIZE, Grey

_LEARNING, _CHOOSING, _TEST = (0, 1, 2, 3), 4, 5
_SEED = 11
_CHANGED = 10  # times that each radiograph is learnt, changed a little
_STRANGERS, _TESTED = 14_000, 1_800
_EPOCHS, _TOGETHER, _RATE = 20, 64, 2e-3
_PASSING = 0.997  # share of the frontal radiographs of the choosing fold that must pass


def fit(greys: NDArray[np.uint8], others: Pictures, *, seed: int = _SEED) -> keras.Model:
    """Return the network that tells these frontal radiographs, (n, SIZE, SIZE), from all else."""
    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    changed = [np.stack([_changed(grey, random) for grey in greys]) for _ in range(_CHANGED - 1)]
    frontal = np.concatenate([greys, *changed])
    strange, _ = strangers(list(greys), others, count=_STRANGERS, seed=seed)
    model = gate.build()
    steps = _EPOCHS * (len(frontal) + len(strange)) // _TOGETHER
    falling = keras.optimizers.schedules.CosineDecay(_RATE, steps)
    model.compile(keras.optimizers.Adam(falling), keras.losses.BinaryCrossentropy(from_logits=True))
    truth = np.repeat([1.0, 0.0], [len(frontal), len(strange)])
    model.fit(gate.seen(np.concatenate([frontal, strange])), truth, batch_size=_TOGETHER, epochs=_EPOCHS, verbose=0)
    return model


def _changed(grey: Grey, random: np.random.Generator) -> Grey:
    """Turned, moved and zoomed a little, mirrored, lit otherwise: still a frontal radiograph."""
    angle, zoom = np.radians(random.uniform(-8, 8)), random.uniform(0.85, 1.1)
    cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
    centre = SIZE / 2
    x, y = random.uniform(-8, 8, 2) + centre
    matrix = (cosine, -sine, centre - cosine * x + sine * y, sine, cosine, centre - sine * x - cosine * y)
    moved = Image.fromarray(grey).transform(
        (SIZE, SIZE), Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR
    )
    pixels = np.asarray(moved)
    return lit(random, pixels[:, ::-1] if random.random() < 0.5 else pixels)  # noqa: PLR2004


def main(folder: Path) -> None:
    radiographs = data.load(folder, index(folder))
    learnt, chosen_by, tested = (radiographs.folds(*folds).greys for folds in (_LEARNING, (_CHOOSING,), (_TEST,)))
    model = fit(learnt, pictures.half(0))
    threshold = float(np.quantile(_logits(model, chosen_by), 1 - _PASSING))
    weights = cnn.weights_to_bytes(model)
    sha256 = hashlib.sha256(weights).hexdigest()
    fitted = _figures(model, threshold, tested) | {
        "data_fingerprint": radiographs.fingerprint,
        "folds": list(_LEARNING),
        "threshold_by_fold": _CHOOSING,
        "seed": _SEED,
    }
    card = gate.Card(f"gate-{sha256[:8]}", round(threshold, 3), sha256, fitted)
    gate.WEIGHTS.write_bytes(weights)
    gate.CARD.write_text(json.dumps(asdict(card), indent=2) + "\n", encoding="utf-8")
    print(gate.CARD.read_text(encoding="utf-8"), end="")  # noqa: T201


def _logits(model: keras.Model, greys: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(model.predict(gate.seen(greys), verbose=0))[:, 0]


def _figures(model: keras.Model, threshold: float, tested: NDArray[np.uint8]) -> dict[str, Any]:
    """How it does on the test fold and on strangers made of it, with pictures and seeds that it has not seen."""
    strange, kinds = strangers(list(tested), pictures.half(1), count=_TESTED, seed=_SEED + 1)
    stopped = _logits(model, strange) < threshold
    named = np.array(kinds)
    return {
        "frontal_passed": round(float((_logits(model, tested) >= threshold).mean()), 4),
        "strangers_stopped": round(float(stopped.mean()), 4),
        "stopped_by_kind": {kind: round(float(stopped[named == kind].mean()), 3) for kind in dict.fromkeys(kinds)},
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
