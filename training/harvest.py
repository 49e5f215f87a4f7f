"""New radiographs to train on: stored images whose newest label says what they are, never from the frozen fold."""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from db import labels
from db.blobs import Blobs
from db.labels import GroundTruth, Truth
from db.tables import Batch, Image, Result
from training.data import Radiographs
from training.index import FROZEN_FOLD, POSITIVE, Entry
from worker.decoders import Decoded, Decoders
from worker.radiograph import SIZE

_NEGATIVE: Final = "Labelled"
_NO_FOLD: Final = -1


@dataclass(frozen=True)
class Labelled:
    """One stored image and what was found; `patient` is a pseudonym, or stands for the study or the image alone.

    `hospital` is whose image and label it is, `by` what found it, such as `rt_pcr`.
    """

    sha256: str
    positive: bool
    patient: str
    hospital: str
    by: str


def labelled(session: Session) -> list[Labelled]:
    """Return the images of patients that have a score and a label, each of its bytes once, by its newest label; the newest last."""
    holds = labels.holding()
    statement = (
        select(Image.sha256, Image.accession, GroundTruth)
        .join(holds, holds.c.image_id == Image.id)
        .join(GroundTruth, GroundTruth.id == holds.c.label_id)
        .join(Batch, Batch.id == Image.batch_id)
        .where(~Batch.synthetic, Batch.purged_at.is_(None))
        .where(select(Result.id).where(Result.image_id == Image.id, Result.probability.is_not(None)).exists())
        .order_by(GroundTruth.id)
    )
    found: dict[str, Labelled] = {}
    for sha256, accession, label in session.execute(statement):
        whose = label.patient or (labels.pseudonym(accession) if accession else sha256)
        positive = label.label == Truth.POSITIVE
        found.pop(sha256, None)  # an earlier label's, so that the newest stand last
        found[sha256] = Labelled(sha256, positive, whose, label.tenant, label.source)
    return list(found.values())


def remembered(path: Path, found: Sequence[Labelled]) -> list[Labelled]:
    """Return what the run began with, by the file that it wrote then; a run that goes on must not see other labels."""
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):  # of a version before this one, or cut off
        return [Labelled(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps([asdict(row) for row in found]), encoding="utf-8")
    unfinished.replace(path)
    return list(found)


def joined(
    base: Radiographs, new: Sequence[Labelled], blobs: Blobs, decoders: Decoders
) -> tuple[Radiographs, list[Labelled]]:
    """Return the base data with the new radiographs, and which of these got in.

    What cannot be decoded, or is of a patient of the frozen fold, stays out. Of the same pixels the newest label holds,
    in the base data too, which stays in its folds.
    """
    seen = list(_decoded(new, blobs, decoders))
    folds = _folds(base, seen)
    places = {digest(grey): place for place, grey in enumerate(base.greys)}
    newest = {digest(grey): (row, grey) for row, grey in seen if folds[row.patient] != FROZEN_FOLD}
    known = [places.get(pixels) for pixels in newest]
    entries = [
        _entry(row, folds[row.patient], None if place is None else base.entries[place])
        for place, (row, _) in zip(known, newest.values(), strict=True)
    ]
    kept = [place for place in range(len(base.entries)) if place not in known]
    return _together(base, kept, entries, [grey for _, grey in newest.values()]), [row for row, _ in newest.values()]


def _folds(base: Radiographs, seen: Sequence[tuple[Labelled, NDArray[np.uint8]]]) -> dict[str, int]:
    """Return each patient's fold: the highest one that labels and pixels link to, else one that follows from the name.

    The highest: so the frozen fold wins, then the one that validates.
    """
    known = sorted(zip(base.entries, base.greys, strict=True), key=lambda pair: pair[0].fold)
    found = {labels.pseudonym(entry.patient): (entry.fold, "") for entry, _ in known}
    found |= {digest(grey): (entry.fold, "") for entry, grey in known}
    links = [(row.patient, digest(grey)) for row, grey in seen]
    for patient, pixels in links:
        found.setdefault(patient, (_NO_FOLD, patient))
        found.setdefault(pixels, (_NO_FOLD, patient))
    while any(found[patient] != found[pixels] for patient, pixels in links):
        for patient, pixels in links:
            found[patient] = found[pixels] = max(found[patient], found[pixels])
    return {
        patient: int(_hash(found[patient][1]), 16) % FROZEN_FOLD if found[patient][0] == _NO_FOLD else found[patient][0]
        for patient, _ in links
    }


def digest(grey: NDArray[np.uint8]) -> str:
    """Of the pixels, since the bytes of a file change when names are taken out of it."""
    return hashlib.sha256(grey.tobytes()).hexdigest()


def _decoded(new: Sequence[Labelled], blobs: Blobs, decoders: Decoders) -> Iterator[tuple[Labelled, NDArray[np.uint8]]]:
    """In child processes, as serving does; what is gone or broken is left out."""
    for row, answer in zip(new, decoders.decode([blobs.path(row.sha256) for row in new]), strict=True):
        if isinstance(answer, Decoded):
            yield row, answer.grey


def _entry(row: Labelled, fold: int, known: Entry | None) -> Entry:
    """A picture that the base data has too stays that patient's, of that source; another is of its hospital."""
    name = POSITIVE if row.positive else _NEGATIVE
    if known:
        return replace(known, file=row.sha256, mask="", label=name, mask_by="")
    return Entry(row.sha256, mask="", label=name, patient=row.patient, fold=fold, source=row.hospital, mask_by="")


def told(found: Sequence[Labelled], used: Sequence[Labelled]) -> dict[str, Any]:
    """Return what a card says of the labels: how many images, by what found it and by hospital, and nothing of a patient."""
    return {
        "images": len(used),
        "left_out": len(found) - len(used),
        "positive": sum(row.positive for row in used),
        "by": dict(sorted(Counter(row.by for row in used).items())),
        "hospitals": dict(sorted(Counter(row.hospital for row in used).items())),
    }


def _together(
    base: Radiographs, kept: Sequence[int], entries: Sequence[Entry], greys: Sequence[NDArray[np.uint8]]
) -> Radiographs:
    """Nobody drew masks for the new ones."""
    added = np.stack(greys) if greys else np.empty((0, SIZE, SIZE), np.uint8)
    lines = "".join(f"{entry.file} {entry.label} {entry.source}\n" for entry in entries)
    return Radiographs(
        entries=(*(base.entries[place] for place in kept), *entries),
        greys=np.concatenate([base.greys[kept], added]),
        masks=np.concatenate([base.masks[kept], np.zeros(added.shape, np.bool_)]),
        fingerprint=_hash(base.fingerprint + lines),
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
