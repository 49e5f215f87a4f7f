"""Counts what comes in, in memory, until a sweep writes it down: brightness and contrast, in bins."""

import math
import threading
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from db import drift
from db.database import Database
from db.drift import BINS
from worker.radiograph import Grey

_HALF_RANGE: Final = 128  # grey levels: no picture's spread is larger


class Inputs:
    """Any number of threads may add; what was added since the last `write` is lost if the process dies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: dict[str, dict[str, NDArray[np.int_]]] = {}

    def add(self, asked: Sequence[tuple[str, Grey]]) -> None:
        """Count radiographs that a model was asked about, each with its batch."""
        batches: dict[str, list[Grey]] = {}
        for batch_id, grey in asked:
            batches.setdefault(batch_id, []).append(grey)
        found = {batch_id: inputs(greys) for batch_id, greys in batches.items()}
        with self._lock:
            for batch_id, features in found.items():
                counts = self._counted.setdefault(batch_id, {name: np.zeros(BINS, int) for name in features})
                for name, bins in features.items():
                    counts[name] += bins

    def write(self, database: Database) -> None:
        """Add what was counted to the day's numbers."""
        with self._lock:
            taken, self._counted = self._counted, {}
        if not taken:
            return
        with database.write() as session:
            drift.add(
                session, {batch: {name: _plain(bins) for name, bins in of.items()} for batch, of in taken.items()}
            )


def inputs(greys: Iterable[Grey]) -> dict[str, list[int]]:
    """Return how many radiographs have their mean, and how many their spread, in each of BINS bins."""
    brightness, contrast = zip(*map(_mean_and_spread, greys), strict=True)
    return {"brightness": counted(brightness), "contrast": counted(contrast)}


def _mean_and_spread(grey: Grey) -> tuple[float, float]:
    """Both 0 to 1; of every radiograph that is scored, so each pass counts."""
    levels = grey.ravel().astype(np.float32)
    mean = levels.mean()
    levels -= mean
    squares = np.square(levels, out=levels).sum()  # not by BLAS, whose threads would take the decoders' time
    return float(mean) / 255, math.sqrt(squares / levels.size) / _HALF_RANGE


def counted(values: Sequence[float] | NDArray[np.float64]) -> list[int]:
    """Return how many values are in each of BINS equal bins from 0 to 1."""
    places = np.clip((np.asarray(values, float) * BINS).astype(int), 0, BINS - 1)
    return _plain(np.bincount(places, minlength=BINS))


def _plain(bins: NDArray[np.int_]) -> list[int]:
    return [int(count) for count in bins]
