"""What a kernel machine on textures tells the CNN of each training radiograph.

It learns from a thousand radiographs what a CNN from nothing does not (docs/model.md has both): so it teaches, and the
CNN serves.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.calibration import platt
from training.textures import textures

Numbers = NDArray[np.float64]
Truth = NDArray[np.bool_]

HINTS: Final = 64
"""How many principal components of the textures the CNN is asked for."""

_PARTS: Final = 4  # of the patients; each is told by a machine that knew the others
_NARROW: Final = 0.3  # of the kernel, where distances are of standardised numbers, a mean over all of them
_RIDGE: Final = 1.0  # for a radiograph that is drawn as often as the mean
_OUTLIER: Final = 3.0  # standard deviations
_SURE: Final = 1e-6


@dataclass(frozen=True)
class Lessons:
    """`probability` (n,) that each is positive, told without knowing its patient, and `hints` (n, HINTS), standardised."""

    probability: Numbers
    hints: NDArray[np.float32]


class Machine:
    """Kernel ridge regression of the class, with a Gaussian kernel on standardised textures."""

    def __init__(self, told: NDArray[np.float32], positive: Truth, shares: Numbers) -> None:
        self._mean, self._spread = told.mean(axis=0), told.std(axis=0) + _SURE
        self._known = self._standardised(told)
        weights = shares / shares.sum()
        target = np.where(positive, 1.0, -1.0)
        self._middle = float(weights @ target)
        ridge = np.diag(_RIDGE / (weights * len(weights)))
        self._slopes = np.linalg.solve(self._kernel(self._known) + ridge, target - self._middle)

    def __call__(self, told: NDArray[np.float32]) -> Numbers:
        """Return (n,) scores of `textures`: about -1 for negative, 1 for positive."""
        return np.asarray(self._middle + self._kernel(self._standardised(told)) @ self._slopes)

    def _standardised(self, told: NDArray[np.float32]) -> Numbers:
        return np.asarray((told - self._mean) / self._spread, np.float64)

    def _kernel(self, some: Numbers) -> Numbers:
        squares = (some**2).mean(axis=1)[:, np.newaxis] + (self._known**2).mean(axis=1)
        between = squares - 2 * some @ self._known.T / some.shape[1]
        return np.asarray(np.exp(-_NARROW * np.maximum(between, 0)))


def lessons(
    pictures: NDArray[np.uint8], positive: Truth, patients: NDArray[np.str_], shares: Numbers, *, seed: int
) -> Lessons:
    """Return what is told of laid-out lungs (n, SIZE, SIZE, 1) that are drawn by these shares."""
    told = textures(pictures)
    scores = np.empty(len(told))
    for part in _parts(patients, seed):
        scores[part] = Machine(told[~part], positive[~part], shares[~part])(told[part])
    slope, intercept = platt(scores, positive)
    # The shares draw as many positives as negatives; calibration knows how many there are.
    intercept -= np.log(positive.sum() / (~positive).sum())
    return Lessons(1 / (1 + np.exp(-(slope * scores + intercept))), hints(told))


def hints(told: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the first components, each divided by the fourth root of its variance: the stronger count for more."""
    centred = np.asarray((told - told.mean(axis=0)) / (told.std(axis=0) + _SURE), np.float64)
    sides, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    count = min(HINTS, len(lengths))
    standard = np.clip(sides[:, :count] * np.sqrt(len(told)), -_OUTLIER, _OUTLIER)
    weights = np.sqrt(lengths[:count]) / np.sqrt((lengths[:count]).mean() + _SURE)
    found = np.zeros((len(told), HINTS), np.float32)
    found[:, :count] = standard * weights
    return found


def _parts(patients: NDArray[np.str_], seed: int) -> list[Truth]:
    """Return which radiographs each part has; a patient is in one of them."""
    known, place = np.unique(patients, return_inverse=True)
    part = np.random.default_rng(seed).permutation(len(known)) % _PARTS
    return [part[place] == each for each in range(_PARTS) if (part == each).any()]
