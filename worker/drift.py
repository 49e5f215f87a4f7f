"""Counts what comes in, in memory, until a sweep writes it down: brightness and contrast, in bins."""

import threading
from collections.abc import Sequence
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

    def add(self, batch_id: str, grey: Grey) -> None:
        """Count one radiograph that a model was asked about."""
        found = {"brightness": brightness([grey]), "contrast": contrast([grey])}
        with self._lock:
            features = self._counted.setdefault(batch_id, {name: np.zeros(BINS, int) for name in found})
            for name, values in found.items():
                features[name] += counted(values)

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


def brightness(greys: Sequence[Grey] | NDArray[np.uint8]) -> list[float]:
    """Return the mean of each radiograph, 0 to 1."""
    return [float(np.mean(grey)) / 255 for grey in greys]


def contrast(greys: Sequence[Grey] | NDArray[np.uint8]) -> list[float]:
    """Return the spread of each radiograph, 0 to 1."""
    return [float(np.std(grey)) / _HALF_RANGE for grey in greys]


def counted(values: Sequence[float] | NDArray[np.float64]) -> list[int]:
    """Return how many values are in each of BINS equal bins from 0 to 1."""
    places = np.clip((np.asarray(values, float) * BINS).astype(int), 0, BINS - 1)
    return _plain(np.bincount(places, minlength=BINS))


def _plain(bins: NDArray[np.int_]) -> list[int]:
    return [int(count) for count in bins]
