"""Candidate less champion, both on the same patients drawn with replacement: what they share cancels out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training import figures
from training.figures import Numbers

_SEED: Final = 20_261_123  # of the bootstrap, so that a verdict comes out the same again

Chosen = NDArray[np.int_]
Figure = Callable[[Numbers, Chosen], float | None]
"""Of these scores at these places; None where it is not defined there."""


@dataclass(frozen=True)
class Gain:
    """How much higher the candidate's figure is, with the 95 % interval of that."""

    difference: float
    low: float
    high: float


def gain(figure: Figure, candidate: Numbers, champion: Numbers, patients: NDArray[np.str_]) -> Gain | None:
    """Return the difference on all images and its interval by patient; None where the figure is not defined."""

    def difference(chosen: Chosen) -> float | None:
        ours, theirs = figure(candidate, chosen), figure(champion, chosen)
        return None if ours is None or theirs is None else ours - theirs

    whole = difference(np.arange(len(patients)))
    if whole is None:
        return None
    generator = np.random.default_rng(_SEED)
    names, owner = np.unique(patients, return_inverse=True)
    images = [np.flatnonzero(owner == place) for place in range(len(names))]
    drawn = (
        np.concatenate([images[place] for place in generator.integers(0, len(names), len(names))])
        for _ in range(figures.RESAMPLES)
    )
    found = [value for value in map(difference, drawn) if value is not None]
    low, high = np.percentile(found, [2.5, 97.5])
    return Gain(whole, float(low), float(high))
