"""A verdict of the gate on a registered version: judged on the frozen fold, kept in the registry."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from db import registry, verdicts
from db.blobs import Blobs
from db.database import Database
from db.registry import Card
from db.verdicts import Verdict
from training import acceptance, data
from training.data import Radiographs
from training.index import FOLDS, DataUnusable, index
from training.reference import reference
from training.scorer import scorer_of
from worker import golden
from worker.decision import Decision
from worker.predictor import Predictor

FROZEN_FOLD: Final = FOLDS - 1
"""Nothing is ever trained on it, and no new image gets into it."""

_GOLDEN: Final = "golden"
_TOGETHER: Final = 8

OnImage = Callable[[int, int], None]


def judge(
    database: Database, blobs: Blobs, folder: Path, version: str, *, actor: str, on_image: OnImage | None = None
) -> Verdict:
    """Judge the version against the champion on the folder's frozen fold, and keep the verdict.

    Raises VersionUnknown, DataUnusable and ModelUnusable.
    """
    with database.read() as session:
        candidate, champion = registry.find(session, version), registry.champion(session)
        card, other = registry.card_of(candidate), registry.card_of(champion)
    weights = blobs.read(candidate.weights_sha256)
    fold, rest = _parts(folder, on_image)
    scorer = scorer_of(card, weights)
    outputs = golden.outputs(_predictor(card, weights))
    with database.read() as session:
        before = verdicts.bounds(session, fold.fingerprint)
    findings = acceptance.judge(
        fold,
        scorer,
        scorer_of(other, blobs.read(champion.weights_sha256)),
        decision=scorer.decision,
        before=before,
        golden_difference=float(np.abs(np.subtract(outputs, card.config.get(_GOLDEN, float("nan")))).max()),
    )
    with database.write() as session:
        return verdicts.record(
            session,
            version,
            findings,
            fold_fingerprint=fold.fingerprint,
            golden=outputs,
            reference=reference(rest, scorer),
            actor=actor,
        )


def _parts(folder: Path, on_image: OnImage | None) -> tuple[Radiographs, Radiographs]:
    """The frozen fold, with a fingerprint of its own, and all the rest."""
    entries = index(folder)
    frozen = [entry for entry in entries if entry.fold == FROZEN_FOLD]
    if len({entry.positive for entry in frozen}) < 2:  # noqa: PLR2004 - COVID and not
        raise DataUnusable(f"fold {FROZEN_FOLD} of {folder} needs positives and negatives: nothing can be judged on it")
    rest = [entry for entry in entries if entry.fold != FROZEN_FOLD]
    return data.load(folder, frozen, on_image), data.load(folder, rest, on_image)


def with_golden(card: Card, weights: bytes) -> Card:
    """Return the card with what the model says of the golden pictures on the day that it was trained."""
    return replace(card, config=card.config | {_GOLDEN: golden.outputs(_predictor(card, weights))})


def _predictor(card: Card, weights: bytes) -> Predictor:
    return Predictor(weights, Decision.of(card), preprocessing=card.preprocessing, batch_size=_TOGETHER)
