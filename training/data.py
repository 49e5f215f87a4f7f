"""Radiographs with their lung masks, in memory, decoded as serving decodes them."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.index import DataUnusable, Entry
from worker.radiograph import SIZE, decode
from worker.rejection import ImageRejected

_HALF = 127  # masks are black and white, in 1, 8 or 24 bits


@dataclass(frozen=True)
class Radiographs:
    """`greys` (n, SIZE, SIZE) uint8 and `masks` (n, SIZE, SIZE) bool, in the order of `entries`; no mask is all False."""

    entries: tuple[Entry, ...]
    greys: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    fingerprint: str

    @property
    def positive(self) -> NDArray[np.bool_]:
        return np.array([entry.positive for entry in self.entries])

    @property
    def patients(self) -> NDArray[np.str_]:
        return np.array([entry.patient for entry in self.entries])

    @property
    def views(self) -> NDArray[np.str_]:
        return np.array([entry.view for entry in self.entries])

    @property
    def labels(self) -> NDArray[np.str_]:
        return np.array([entry.label for entry in self.entries])

    @property
    def sources(self) -> NDArray[np.str_]:
        return np.array([entry.source for entry in self.entries])

    def folds(self, *wanted: int) -> Self:
        """Return those of the wanted folds; the fingerprint stays that of all the data."""
        chosen = [place for place, entry in enumerate(self.entries) if entry.fold in wanted]
        entries = tuple(self.entries[place] for place in chosen)
        return type(self)(entries, self.greys[chosen], self.masks[chosen], self.fingerprint)


def load(folder: Path, entries: Sequence[Entry], on_image: Callable[[int, int], None] | None = None) -> Radiographs:
    """Decode the radiographs and masks, telling `on_image(done, total)` after each, or raise DataUnusable."""
    greys = np.empty((len(entries), SIZE, SIZE), np.uint8)
    masks = np.zeros((len(entries), SIZE, SIZE), np.bool_)
    for place, entry in enumerate(entries):
        greys[place] = _decoded(entry.file, (folder / entry.file).read_bytes())
        if entry.mask:
            masks[place] = _mask(entry.mask, (folder / entry.mask).read_bytes())
        if on_image:
            on_image(place + 1, len(entries))
    return Radiographs(tuple(entries), greys, masks, fingerprint_of(folder, entries))


def fingerprint_of(folder: Path, entries: Sequence[Entry]) -> str:
    """Return the fingerprint of these images and their masks."""
    names = [name for entry in entries for name in (entry.file, entry.mask) if name]
    return fingerprint({name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names})


def fingerprint(digests: dict[str, str]) -> str:
    """SHA-256 over the lines `SHA-256 of the file, two spaces, relative path`, sorted by path (as sha256sum writes)."""
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _decoded(name: str, data: bytes) -> NDArray[np.uint8]:
    try:
        return decode(data)
    except ImageRejected as error:
        raise DataUnusable(f"{name} cannot be decoded, {error}: replace or remove it") from error


def _mask(name: str, data: bytes) -> NDArray[np.bool_]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            grey = image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    except OSError as error:
        raise DataUnusable(f"{name} is no image: replace it, or remove the radiograph too") from error
    lungs = np.asarray(grey) > _HALF
    if not lungs.any():
        raise DataUnusable(f"{name} shows no lungs: replace it, or remove the radiograph too")
    return lungs
