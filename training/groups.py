"""Ranking and rates by source, by view and by class of negative: a model is as good as where it is worst."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training import figures
from training.data import Radiographs
from training.figures import Interval, Numbers, Truth

SEED: Final = 20_200_101
"""Of the bootstrap only: intervals come out the same every time."""


@dataclass(frozen=True)
class Ranking:
    """AUROC and the rates at the operating point, each with its 95 % interval by patient; None where undefined."""

    positives: int
    negatives: int
    patients: int
    auroc: float | None
    auroc_interval: Interval
    sensitivity: float | None
    sensitivity_interval: Interval
    specificity: float | None
    specificity_interval: Interval


def ranking(scores: Numbers, truth: Truth, patients: NDArray[np.str_], *, threshold: float) -> Ranking:
    """Return the figures of these radiographs."""

    def sensitivity(some: Numbers, theirs: Truth) -> float | None:
        return figures.sensitivity(some >= threshold, theirs)

    def specificity(some: Numbers, theirs: Truth) -> float | None:
        return figures.specificity(some >= threshold, theirs)

    def interval(figure: figures.Figure) -> Interval:
        return figures.interval(figure, scores, truth, patients=patients, seed=SEED)

    return Ranking(
        positives=int(truth.sum()),
        negatives=int((~truth).sum()),
        patients=len(np.unique(patients)),
        auroc=figures.auroc(scores, truth),
        auroc_interval=interval(figures.auroc),
        sensitivity=sensitivity(scores, truth),
        sensitivity_interval=interval(sensitivity),
        specificity=specificity(scores, truth),
        specificity_interval=interval(specificity),
    )


def by(names: NDArray[np.str_], scores: Numbers, radiographs: Radiographs, *, threshold: float) -> dict[str, Ranking]:
    """Return a Ranking for each of the names, one a radiograph; what has none is left out."""
    found: dict[str, Ranking] = {}
    for name in np.unique(names[names != ""]):
        found[str(name)] = _of(names == name, scores, radiographs, threshold)
    return found


def by_negative(scores: Numbers, radiographs: Radiographs, *, threshold: float) -> dict[str, Ranking]:
    """Return a Ranking of all positives against each class of negative."""
    labels, positive = radiographs.labels, radiographs.positive
    return {
        str(label): _of(positive | (labels == label), scores, radiographs, threshold)
        for label in np.unique(labels[~positive])
    }


def _of(chosen: Truth, scores: Numbers, radiographs: Radiographs, threshold: float) -> Ranking:
    truth, patients = radiographs.positive[chosen], radiographs.patients[chosen]
    return ranking(scores[chosen], truth, patients, threshold=threshold)
