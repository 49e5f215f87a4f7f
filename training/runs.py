"""One training run from a folder to a model version, and the directory it is kept in."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from db.registry import Card
from training import data
from training.best_epoch import OnEpoch
from training.checkpoint import Checkpoint
from training.config import Config
from training.data import Radiographs
from training.evaluate import EVERYTHING, HELD_OUT, Evaluation, evaluate
from training.fit import Fitted, OnStep, fit
from training.index import FOLDS, DataUnusable, Entry, folds_are_stated, index
from training.kept import CARD, WEIGHTS
from training.provenance import provenance
from training.reference import REFERENCE, reference
from training.scorer import Scorer, scorer_of

_HISTORY = "history.json"
REPORT = "report.html"
BASE: Final = "base_fingerprint"
"""In a card's config: of the folder alone, where a version was trained on labelled images too."""


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
    logs: Path | None = None,
) -> Run:
    """Load, fit, evaluate on the test fold and describe; raises DataUnusable. `entries` limits the folder."""
    chosen = tuple(entries) if entries is not None else index(folder)
    radiographs = data.load(folder, chosen, on_image)
    return trained(radiographs, config, on_epoch=on_epoch, logs=logs)


def trained(
    radiographs: Radiographs,
    config: Config,
    *,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
    checkpoint: Checkpoint | None = None,
    logs: Path | None = None,
) -> Run:
    """Fit, evaluate on the test fold and describe; goes on after the last epoch in `checkpoint`."""
    begun, made_with = time.monotonic(), provenance()
    fitted = fit(radiographs, config, on_epoch, checkpoint, on_step=on_step, logs=logs)
    made_with["seconds"] = round(time.monotonic() - begun)
    held_out = radiographs.folds(config.test_fold)
    scorer = Scorer(fitted.weights, fitted.decision, preprocessing=config.preprocessing)
    evaluation = evaluate(held_out, scorer)
    known = radiographs.folds(*(fold for fold in range(FOLDS) if fold != config.test_fold))
    card = describe(fitted, config, evaluation, made_with)
    card = replace(card, config=card.config | {REFERENCE: reference(known, scorer)})
    return Run(card, fitted.weights, fitted, evaluation, scorer(held_out.greys), held_out.positive)


@dataclass(frozen=True)
class Examined:
    """An evaluation, and what its plots are drawn from."""

    evaluation: Evaluation
    scores: NDArray[np.float64]
    truth: NDArray[np.bool_]


def evaluate_card(
    folder: Path,
    card: Card,
    weights: bytes,
    *,
    everything: bool = False,
    prevalence: float | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> Examined:
    """Evaluate a model version on every image of a folder that it does not know; raises DataUnusable.

    Of the folder that it was trained on, and of one whose metadata.csv states folds, it is the test fold, unless
    `everything` is wanted.
    """
    entries = index(folder, masks=False)
    test_fold = int(card.config.get("test_fold", Config.test_fold))
    fingerprint = data.fingerprint_of(folder, entries)
    known = fingerprint in {card.data_fingerprint, card.config.get(BASE)} or folds_are_stated(folder)
    whole = everything or not known
    chosen = tuple(entry for entry in entries if whole or entry.fold == test_fold)
    if not chosen:
        raise DataUnusable(f"no image of {folder} is in fold {test_fold}: evaluate everything in it instead (--all)")
    radiographs = replace(data.load(folder, chosen, on_image), fingerprint=fingerprint)
    scorer = scorer_of(card, weights)
    found = evaluate(radiographs, scorer, prevalence=prevalence, evaluated=EVERYTHING if whole else HELD_OUT)
    return Examined(found, scorer(radiographs.greys), radiographs.positive)


def describe(fitted: Fitted, config: Config, evaluation: Evaluation, made_with: dict[str, Any]) -> Card:
    """Return the card of the run, its version named by the day (UTC) and the SHA-256 of the weights."""
    sha256 = hashlib.sha256(fitted.weights).hexdigest()
    return Card(
        version=f"cnn-{datetime.now(UTC):%Y.%m.%d}-{sha256[:8]}",
        preprocessing=config.preprocessing,
        threshold=fitted.decision.threshold,
        calibration_slope=fitted.decision.slope,
        calibration_intercept=fitted.decision.intercept,
        data_fingerprint=evaluation.data_fingerprint,
        config={
            **asdict(config),
            "weights_sha256": sha256,
            "best_epoch": fitted.best_epoch,
            "made_with": made_with,
        },
        metrics=evaluation.as_json(),
        band_low=fitted.decision.band[0] if fitted.decision.band else None,
        band_high=fitted.decision.band[1] if fitted.decision.band else None,
    )


def save(directory: Path, finished: Run) -> None:
    """Write model.json, weights.npz, history.json, the plots and report.html."""
    from training import plots, report  # noqa: PLC0415 - matplotlib is wanted for pictures only

    directory.mkdir(parents=True, exist_ok=True)
    (directory / WEIGHTS).write_bytes(finished.weights)
    _write(directory / CARD, asdict(finished.card))
    _write(directory / _HISTORY, finished.fitted.history)
    learned = plots.learning_curves(finished.fitted.history, finished.fitted.best_epoch)
    drawn = {"learning_curves": learned} | report.drawn(finished.evaluation, finished.scores, finished.truth)
    plots.save(directory, drawn)
    page = report.page(finished.card, finished.evaluation.as_json(), drawn)
    (directory / REPORT).write_text(page, encoding="utf-8")


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
