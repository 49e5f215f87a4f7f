"""One training run from a folder to a model version, and the directory it is kept in."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from db.registry import Card
from training import data
from training.checkpoint import Checkpoint
from training.data import Radiographs
from training.evaluate import Evaluation, Scorer, evaluate
from training.fit import Config, Fitted, OnEpoch, fit
from training.index import DataUnusable, Entry, index
from training.kept import CARD, WEIGHTS
from worker.predictor import Decision

_HISTORY = "history.json"


@dataclass(frozen=True)
class Run:
    """A finished run: the model version, and what the plots are drawn from."""

    card: Card
    weights: bytes
    fitted: Fitted
    evaluation: Evaluation
    scores: NDArray[np.float64]
    truth: NDArray[np.bool_]


def run(
    folder: Path,
    config: Config,
    *,
    entries: Iterable[Entry] | None = None,
    on_image: Callable[[int, int], None] | None = None,
    on_epoch: OnEpoch | None = None,
) -> Run:
    """Load, fit, evaluate on the test fold and describe; raises DataUnusable. `entries` limits the folder."""
    chosen = tuple(entries) if entries is not None else index(folder)
    radiographs = data.load(folder, chosen, on_image)
    return trained(radiographs, config, on_epoch=on_epoch)


def trained(
    radiographs: Radiographs,
    config: Config,
    *,
    on_epoch: OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
) -> Run:
    """Fit, evaluate on the test fold and describe; goes on after the last epoch in `checkpoint`."""
    fitted = fit(radiographs, config, on_epoch, checkpoint)
    held_out = radiographs.folds(config.test_fold)
    scorer = Scorer(fitted.weights, fitted.decision, preprocessing=config.preprocessing)
    evaluation = evaluate(held_out, scorer)
    card = describe(fitted, config, evaluation)
    return Run(card, fitted.weights, fitted, evaluation, scorer(held_out.greys), held_out.positive)


def evaluate_card(
    folder: Path,
    card: Card,
    weights: bytes,
    *,
    everything: bool = False,
    on_image: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluate a model version on its test fold of the folder, or on `everything` in it; raises DataUnusable."""
    test_fold = int(card.config.get("test_fold", Config.test_fold))
    entries = tuple(entry for entry in index(folder) if everything or entry.fold == test_fold)
    if not entries:
        raise DataUnusable(f"no image of {folder} is in fold {test_fold}: evaluate everything in it instead (--all)")
    return evaluate(data.load(folder, entries, on_image), scorer_of(card, weights))


def scorer_of(card: Card, weights: bytes) -> Scorer:
    """Return the model version ready to score, or raise ModelUnusable."""
    decision = Decision(card.threshold, card.calibration_slope, card.calibration_intercept)
    return Scorer(weights, decision, preprocessing=card.preprocessing)


def describe(fitted: Fitted, config: Config, evaluation: Evaluation) -> Card:
    """Return the card of the run, its version named by the day (UTC) and the SHA-256 of the weights."""
    sha256 = hashlib.sha256(fitted.weights).hexdigest()
    return Card(
        version=f"cnn-{datetime.now(UTC):%Y.%m.%d}-{sha256[:8]}",
        preprocessing=config.preprocessing,
        threshold=fitted.decision.threshold,
        calibration_slope=fitted.decision.slope,
        calibration_intercept=fitted.decision.intercept,
        data_fingerprint=evaluation.data_fingerprint,
        config={**asdict(config), "weights_sha256": sha256, "best_epoch": fitted.best_epoch},
        metrics=evaluation.as_json(),
    )


def save(directory: Path, finished: Run) -> None:
    """Write model.json, weights.npz, history.json and the four plots."""
    from training import plots  # noqa: PLC0415 - matplotlib is wanted for pictures only

    directory.mkdir(parents=True, exist_ok=True)
    (directory / WEIGHTS).write_bytes(finished.weights)
    _write(directory / CARD, asdict(finished.card))
    _write(directory / _HISTORY, finished.fitted.history)
    plots.save(
        directory,
        {
            "learning_curves": plots.learning_curves(finished.fitted.history, finished.fitted.best_epoch),
            "roc": plots.roc(finished.scores, finished.truth, finished.card.threshold),
            "calibration": plots.calibration(finished.scores, finished.truth),
            "confusion": plots.confusion(finished.evaluation.confusion),
        },
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
