"""One retraining run: from the labels of the day to a registered candidate with the gate's verdict."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import promotions, registry
from db.retraining import RetrainingRun
from db.tables import Model
from db.verdicts import Verdict
from settings import Settings
from training import data, harvest, runs, verdicts
from training.checkpoint import Checkpoint
from training.config import Config
from training.data import Radiographs
from training.index import DataUnusable, index
from training.lease import Lease
from training.parts import Parts
from worker import shadow

log = logging.getLogger(__name__)

ACTOR: Final = "trainer"
_SHADOWED_IMAGES: Final = 1000
_LABELS, _CHECKPOINT = "labels.json", "checkpoint.npz"


class TooFewLabels(Exception):
    """There is not enough new to train on."""


def carry_out(parts: Parts, run: RetrainingRun, held: Lease) -> Verdict:
    """Train, register, judge, and appoint the challenger; goes on after the last epoch of an earlier attempt.

    Raises TooFewLabels, DataUnusable, ModelUnusable, and Stopped or LeaseLost where the run must not go on. A candidate that is registered is judged
    too, whoever cancels.
    """
    directory = _directory(parts, run)
    radiographs, told = _radiographs(parts, run, directory, held)
    config = Config(epochs=parts.settings.retrain_epochs, exposures=parts.settings.retrain_exposures)
    held.note(epochs=config.epochs)
    made = runs.trained(
        radiographs,
        config,
        on_epoch=lambda epoch, _of, _logs: held.note(epoch=epoch),
        on_step=parts.stand_back,
        checkpoint=Checkpoint(directory / _CHECKPOINT),
        logs=parts.settings.home / "runs" / "tensorboard" / run.id,
    )
    card = verdicts.with_golden(replace(made.card, config=made.card.config | told), made.weights)
    runs.save(directory, replace(made, card=card))
    with held.writing() as session:
        held.check()
        registry.register(session, parts.blobs, card, made.weights, actor=ACTOR)
    verdict = verdicts.judge(parts.database, parts.blobs, _folder(parts.settings), card.version, actor=ACTOR)
    with held.writing() as session:
        registry.appoint(session, registry.CHALLENGER, card.version, actor=ACTOR)
    return verdict


def forget(parts: Parts, run: RetrainingRun) -> None:
    """Remove what the run would have gone on from; call it once the run's end is committed."""
    Checkpoint(_directory(parts, run) / _CHECKPOINT).remove()


def promote_by_itself(session: Session, verdict: Verdict) -> bool:
    """Ask for the promotion where the version passed and nothing stands against it, and return whether."""
    if not verdict.passed:
        return False
    who, why = "CXR_RETRAIN_PROMOTE", "it passed the gate, and the setting says that this is enough"
    try:
        promotions.ask(session, verdict.version, who=who, reason=why, actor=ACTOR)
    except promotions.REFUSALS as refusal:
        log.warning("%s is not promoted by itself: %s: %s", verdict.version, type(refusal).__name__, refusal)
        return False
    return True


def look_on(parts: Parts, verdict: Verdict) -> None:
    """Let the new challenger look at what came in lately, so that a person can see what would change; it may fail."""
    try:
        shadow.look(parts.database, parts.blobs, parts.decoders, verdict.version, images=_SHADOWED_IMAGES, actor=ACTOR)
    except Exception:
        log.exception("no report of what %s would change: `cxr shadow` makes one", verdict.version)


def _radiographs(parts: Parts, run: RetrainingRun, directory: Path, held: Lease) -> tuple[Radiographs, dict[str, Any]]:
    """The base data with the new images, and what the card says of both."""
    folder = _folder(parts.settings)
    base = data.load(folder, index(folder), lambda _done, _total: None)
    with parts.database.read() as session:
        found = harvest.labelled(session)
    found = harvest.remembered(directory / _LABELS, found)
    radiographs, used = harvest.joined(base, found, parts.blobs, parts.decoders)
    new = len(used)
    held.note(new_images=new, left_out=len(found) - new)
    least = parts.settings.retrain_labels
    if new < least:
        raise TooFewLabels(f"{new} new images have a label and can be used, CXR_RETRAIN_LABELS asks for {least}")
    _check_is_new(parts, radiographs, run)
    log.info("%d new images with a label, %d left out", new, len(found) - new)
    return radiographs, {runs.BASE: base.fingerprint, "labels": {"run": run.id, **harvest.told(found, used)}}


def _check_is_new(parts: Parts, radiographs: Radiographs, run: RetrainingRun) -> None:
    """The same data would make the same candidate again; an attempt before this one may have registered it."""
    with parts.database.read() as session:
        known = session.scalar(select(Model.version).where(Model.data_fingerprint == radiographs.fingerprint))
    if known and run.attempts == 1:
        raise TooFewLabels(f"nothing is new since {known}")


def _directory(parts: Parts, run: RetrainingRun) -> Path:
    return parts.settings.home / "runs" / run.id


def _folder(settings: Settings) -> Path:
    if not settings.training_data.name:
        raise DataUnusable(
            "CXR_TRAINING_DATA is not set: it names the folder that candidates are trained and judged on"
        )
    return settings.training_data
