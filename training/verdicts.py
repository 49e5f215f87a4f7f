"""A verdict of the gate on a registered version: judged on the frozen fold, kept in the registry."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from db import registry, verdicts
from db.blobs import Blobs
from db.database import Database
from db.registry import Card
from db.verdicts import Verdict
from training import acceptance, data
from training.index import FROZEN_FOLD, DataUnusable, Entry, index
from training.reference import REFERENCE, reference
from training.scorer import Scorer, scorer_of
from worker import golden
from worker.decision import Decision
from worker.predictor import Predictor

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
    fold = data.load(folder, _entries(folder, frozen=True), on_image)
    scorer, theirs = scorer_of(card, weights), scorer_of(other, blobs.read(champion.weights_sha256))
    outputs = golden.outputs(_predictor(card, weights))
    with database.read() as session:
        before = verdicts.bounds(session, fold.fingerprint)
    findings = acceptance.judge(
        fold,
        scorer,
        theirs,
        decision=scorer.decision,
        champion_decision=theirs.decision,
        before=before,
        golden_difference=golden.difference(outputs, card.config.get(golden.RECORDED, [])),
    )
    known = _reference(folder, card, scorer, on_image)
    with database.write() as session:
        return verdicts.record(
            session,
            version,
            findings,
            champion=other.version,
            fold_fingerprint=fold.fingerprint,
            golden=outputs,
            reference=known,
            actor=actor,
        )


def _entries(folder: Path, *, frozen: bool) -> list[Entry]:
    """The frozen fold, or all the rest."""
    chosen = [entry for entry in index(folder) if (entry.fold == FROZEN_FOLD) == frozen]
    if frozen and len({entry.positive for entry in chosen}) < 2:  # noqa: PLR2004 - COVID and not
        raise DataUnusable(f"fold {FROZEN_FOLD} of {folder} needs positives and negatives: nothing can be judged on it")
    return chosen


def _reference(folder: Path, card: Card, scorer: Scorer, on_image: OnImage | None) -> dict[str, Any]:
    """Empty where the card has one: a version may have been trained on more than this folder."""
    if card.config.get(REFERENCE):
        return {}
    return reference(data.load(folder, _entries(folder, frozen=False), on_image), scorer)


def with_golden(card: Card, weights: bytes) -> Card:
    """Return the card with what the model says of the golden pictures on the day that it was trained."""
    return replace(card, config=card.config | {golden.RECORDED: golden.outputs(_predictor(card, weights))})


def _predictor(card: Card, weights: bytes) -> Predictor:
    return Predictor(weights, Decision.of(card), preprocessing=card.preprocessing, batch_size=_TOGETHER)
