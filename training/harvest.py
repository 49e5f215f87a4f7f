"""New radiographs to train on: stored images whose newest label says what they are, never from the frozen fold."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from db import labels
from db.blobs import Blobs
from db.labels import GroundTruth, Truth
from db.tables import Batch, Image, Result
from training.data import Radiographs
from training.index import FOLDS, POSITIVE, Entry
from worker.decoders import Decoded, Decoders
from worker.radiograph import SIZE

FROZEN_FOLD: Final = FOLDS - 1
"""Nothing is ever trained on it, and no new image gets into it."""

_NEGATIVE: Final = "Labelled"
_SOURCE: Final = "labels"


@dataclass(frozen=True)
class Labelled:
    """One stored image and what was found; `patient` is a pseudonym, or stands for the study or the image alone."""

    sha256: str
    positive: bool
    patient: str


def labelled(session: Session) -> list[Labelled]:
    """Return the images of patients that have a score and a label, each of its bytes once, by its newest label."""
    holds = labels.holding()
    statement = (
        select(Image.sha256, GroundTruth.label, GroundTruth.patient, Image.accession)
        .join(holds, holds.c.image_id == Image.id)
        .join(GroundTruth, GroundTruth.id == holds.c.label_id)
        .join(Batch, Batch.id == Image.batch_id)
        .where(~Batch.synthetic, Batch.purged_at.is_(None))
        .where(select(Result.id).where(Result.image_id == Image.id, Result.probability.is_not(None)).exists())
        .order_by(GroundTruth.id)
    )
    found: dict[str, Labelled] = {}
    for sha256, label, patient, accession in session.execute(statement):
        whose = patient or (labels.pseudonym(accession) if accession else sha256)
        found[sha256] = Labelled(sha256, label == Truth.POSITIVE, whose)  # a later label replaces an earlier one
    return list(found.values())


def remembered(path: Path, found: Sequence[Labelled]) -> list[Labelled]:
    """Return what the run began with, by the file that it wrote then; a run that goes on must not see other labels."""
    if path.is_file():
        return [Labelled(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in found]), encoding="utf-8")
    return list(found)


def joined(base: Radiographs, new: Sequence[Labelled], blobs: Blobs, decoders: Decoders) -> tuple[Radiographs, int]:
    """Return the base data with the new radiographs, and how many of these got in.

    What cannot be decoded, shows the pixels of the frozen fold, or is of one of its patients, stays out. Of pixels that
    the base data has too, the new label holds.
    """
    frozen = [entry.fold == FROZEN_FOLD for entry in base.entries]
    places = {digest(grey): place for place, grey in enumerate(base.greys)}
    folds = {labels.pseudonym(entry.patient): entry.fold for entry in base.entries}
    replaced, entries, greys = set[int](), list[Entry](), list[NDArray[np.uint8]]()
    for row, grey in _decoded(new, blobs, decoders):
        place = places.get(digest(grey))
        if folds.get(row.patient) == FROZEN_FOLD or (place is not None and frozen[place]):
            continue
        if place is not None:
            replaced.add(place)
        patient = row.patient if place is None else base.entries[place].patient
        fold = folds.get(row.patient, int(_hash(row.patient), 16) % FROZEN_FOLD)
        entries.append(_entry(row, patient, fold if place is None else base.entries[place].fold))
        greys.append(grey)
    kept = [place for place in range(len(base.entries)) if place not in replaced]
    return _together(base, kept, entries, greys), len(entries)


def digest(grey: NDArray[np.uint8]) -> str:
    """Of the pixels, since the bytes of a file change when names are taken out of it."""
    return hashlib.sha256(grey.tobytes()).hexdigest()


def _decoded(new: Sequence[Labelled], blobs: Blobs, decoders: Decoders) -> Iterator[tuple[Labelled, NDArray[np.uint8]]]:
    """In child processes, as serving does; what is gone or broken is left out."""
    for row, answer in zip(new, decoders.decode([blobs.path(row.sha256) for row in new]), strict=True):
        if isinstance(answer, Decoded):
            yield row, answer.grey


def _entry(row: Labelled, patient: str, fold: int) -> Entry:
    name = POSITIVE if row.positive else _NEGATIVE
    return Entry(file=row.sha256, mask="", label=name, patient=patient, fold=fold, source=_SOURCE, mask_by="")


def _together(
    base: Radiographs, kept: Sequence[int], entries: Sequence[Entry], greys: Sequence[NDArray[np.uint8]]
) -> Radiographs:
    """Nobody drew masks for the new ones."""
    added = np.stack(greys) if greys else np.empty((0, SIZE, SIZE), np.uint8)
    lines = "".join(f"{entry.file} {entry.label}\n" for entry in entries)
    return Radiographs(
        entries=(*(base.entries[place] for place in kept), *entries),
        greys=np.concatenate([base.greys[kept], added]),
        masks=np.concatenate([base.masks[kept], np.zeros(added.shape, np.bool_)]),
        fingerprint=_hash(base.fingerprint + lines),
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
