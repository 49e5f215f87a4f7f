"""Which radiographs a folder holds, whose they are, and which fold each patient is in."""

import csv
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDS: Final = 6

FROZEN_FOLD: Final = FOLDS - 1
"""Nothing is ever trained on it, and no new image gets into it."""

POSITIVE: Final = "COVID"
"""Name of the positive folder; every other folder with `images/` in it is negative."""

_SUFFIXES = {".png", ".jpg", ".jpeg", ".dcm"}
_LAYOUT = "give a folder with CLASS/images and CLASS/masks in it, one CLASS being COVID"


class DataUnusable(Exception):
    """The folder cannot be trained on; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Entry:
    """One radiograph; `file` and `mask` are relative to the folder; what is not stated, the mask too, is empty."""

    file: str
    mask: str
    label: str
    patient: str
    fold: int
    source: str
    mask_by: str
    view: str = ""

    @property
    def positive(self) -> bool:
        return self.label == POSITIVE


def index(folder: Path, *, masks: bool = True) -> tuple[Entry, ...]:
    """Return the radiographs of the folder in a fixed order, or raise DataUnusable; without `masks` some may be missing."""
    files = sorted(path for path in folder.glob("*/images/*") if path.suffix.lower() in _SUFFIXES)
    if not files:
        raise DataUnusable(f"{folder} holds no images: {_LAYOUT}")
    rows = _metadata(folder / "metadata.csv")
    entries = tuple(_entry(folder, path, rows) for path in files)
    without = next((entry for entry in entries if masks and not entry.mask), None)
    if without:
        raise DataUnusable(f"{without.file} has no lung mask: put it at {_mask_of(without.file)}")
    missing = sorted(set(rows) - {entry.file for entry in entries})
    if missing:
        raise DataUnusable(f"{len(missing)} images of metadata.csv are missing, {missing[0]} first: copy them again")
    _check_classes(folder, entries)
    _check_patients(entries)
    return entries


def subset(entries: Iterable[Entry], images: int) -> tuple[Entry, ...]:
    """Return about `images` of them, the same ones every time, from each class and fold alike."""
    groups: dict[tuple[int, bool], list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: _digest(entry.file)):
        groups.setdefault((entry.fold, entry.positive), []).append(entry)
    each = max(1, round(images / len(groups)))
    return tuple(entry for key in sorted(groups) for entry in groups[key][:each])


def fold_of(patient: str) -> int:
    """The fold of a patient where none is given: always the same one, whatever else the folder holds."""
    return int(_digest(patient), 16) % FOLDS


def folds_are_stated(folder: Path) -> bool:
    """Whether metadata.csv says which fold an image is in."""
    return any(row.get("fold") for row in _metadata(folder / "metadata.csv").values())


def _entry(folder: Path, path: Path, rows: dict[str, dict[str, str]]) -> Entry:
    file = path.relative_to(folder).as_posix()
    if rows and file not in rows:
        raise DataUnusable(f"{file} has no row in metadata.csv: add one, or remove metadata.csv")
    mask = _mask_of(file)
    row = rows.get(file, {})
    patient = row.get("patient_id") or file
    fold = row.get("fold") or str(fold_of(patient))
    if not fold.isdecimal() or int(fold) >= FOLDS:
        raise DataUnusable(f"{file} is in fold {fold!r}: folds are 0 to {FOLDS - 1}")
    stated = {name: row.get(name) or "" for name in ("source", "mask_by", "view")}
    there = mask if (folder / mask).is_file() else ""
    return Entry(file, there, path.parent.parent.name, patient, int(fold), **stated)


def _mask_of(file: str) -> str:
    path = Path(file)
    return (path.parent.parent / "masks" / f"{path.stem}.png").as_posix()


def _metadata(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        rows = list(reader)
    if "file" not in (reader.fieldnames or ()):
        raise DataUnusable("metadata.csv has no column `file`: name each image as CLASS/images/NAME there")
    return {row["file"]: row for row in rows}


def _check_classes(folder: Path, entries: tuple[Entry, ...]) -> None:
    if not any(entry.positive for entry in entries):
        raise DataUnusable(f"{folder} has no positive class: name the folder of the positive images {POSITIVE}")
    if all(entry.positive for entry in entries):
        raise DataUnusable(f"{folder} holds only {POSITIVE}: add a folder of negatives, such as Normal/images")


def _check_patients(entries: tuple[Entry, ...]) -> None:
    folds: dict[str, int] = {}
    for entry in entries:
        if folds.setdefault(entry.patient, entry.fold) != entry.fold:
            raise DataUnusable(f"patient {entry.patient} is in two folds: give all images of a patient the same fold")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
