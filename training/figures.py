"""The figures of a classifier from its scores: pure numpy, undefined where a class is absent."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Truth = NDArray[np.bool_]
Interval = tuple[float, float] | None
Figure = Callable[[Numbers, Truth], float | None]

RESAMPLES: Final = 1000
"""Bootstrap samples of an interval."""

BINS: Final = 10
"""Equal-width bins of the expected calibration error."""


def auroc(scores: Numbers, truth: Truth) -> float | None:
    """Share of (positive, negative) pairs ranked rightly, ties a half (Mann and Whitney 1947); None without pairs."""
    positives, negatives = scores[truth], np.sort(scores[~truth])
    if not len(positives) or not len(negatives):
        return None
    below = np.searchsorted(negatives, positives, side="left")
    not_above = np.searchsorted(negatives, positives, side="right")
    return float((below + not_above).mean() / (2 * len(negatives)))


def share(part: Truth, whole: Truth) -> float | None:
    """How many of `whole` are in `part`; None where the whole is empty."""
    return float(part[whole].mean()) if whole.any() else None


def sensitivity(called: Truth, truth: Truth) -> float | None:
    return share(called, truth)


def specificity(called: Truth, truth: Truth) -> float | None:
    return share(~called, ~truth)


def predictive(called: Truth, truth: Truth, *, prevalence: float) -> tuple[float | None, float | None]:
    """PPV and NPV where a share of `prevalence` is positive, by Bayes from sensitivity and specificity."""
    found, cleared = sensitivity(called, truth), specificity(called, truth)
    if found is None or cleared is None:
        return None, None
    hits, alarms = prevalence * found, (1 - prevalence) * (1 - cleared)
    misses, clear = prevalence * (1 - found), (1 - prevalence) * cleared
    return _part(hits, alarms), _part(clear, misses)


def _part(one: float, other: float) -> float | None:
    return one / (one + other) if one + other else None


def brier(probability: Numbers, truth: Truth) -> float:
    return float(np.mean((probability - truth) ** 2))


def calibration_curve(probability: Numbers, truth: Truth) -> list[tuple[float, float, int]]:
    """Return (mean probability, share of positives, images) of each bin that is not empty."""
    places = np.minimum((probability * BINS).astype(int), BINS - 1)
    bins = (places == place for place in range(BINS))
    return [
        (float(probability[bin_].mean()), float(truth[bin_].mean()), int(bin_.sum())) for bin_ in bins if bin_.any()
    ]


def calibration_error(probability: Numbers, truth: Truth) -> float:
    """Expected calibration error: the bins' distances, weighted by their images (Naeini 2015)."""
    distances = [abs(mean - share_) * images for mean, share_, images in calibration_curve(probability, truth)]
    return sum(distances) / len(truth)


def interval(
    figure: Figure,
    scores: Numbers,
    truth: Truth,
    *,
    patients: NDArray[np.str_],
    seed: int,
) -> Interval:
    """Return the 95 % interval by drawing patients with replacement; None where the figure is never defined."""
    generator = np.random.default_rng(seed)
    names, owner = np.unique(patients, return_inverse=True)
    images = [np.flatnonzero(owner == place) for place in range(len(names))]
    values: list[float] = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([images[place] for place in generator.integers(0, len(names), len(names))])
        value = figure(scores[drawn], truth[drawn])
        if value is not None:
            values.append(value)
    if not values:
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
