"""What comes in, counted in bins, against what the model was trained on: the population stability index."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from db.drift import BINS
from worker.radiograph import Grey

_HALF_RANGE: Final = 128  # grey levels: no picture's spread is larger


def brightness(greys: Sequence[Grey] | NDArray[np.uint8]) -> list[float]:
    """Return the mean of each radiograph, 0 to 1."""
    return [float(np.mean(grey)) / 255 for grey in greys]


def contrast(greys: Sequence[Grey] | NDArray[np.uint8]) -> list[float]:
    """Return the spread of each radiograph, 0 to 1."""
    return [float(np.std(grey)) / _HALF_RANGE for grey in greys]


def counted(values: Sequence[float] | NDArray[np.float64]) -> list[int]:
    """Return how many values are in each of BINS equal bins from 0 to 1."""
    places = np.clip((np.asarray(values, float) * BINS).astype(int), 0, BINS - 1)
    return [int(count) for count in np.bincount(places, minlength=BINS)]
