"""From raw outputs on the validation fold to the Decision that serving uses."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training import figures
from training.figures import Numbers, Truth
from worker.decision import Decision

_SEED: Final = 20_200_101  # of the bootstrap only
_STEPS = 100
_CLOSE = 1e-10
_RIDGE = 1e-6  # keeps the Newton step defined where the raw outputs separate the classes


@dataclass(frozen=True)
class Wanted:
    """What a label shall be worth: how many of the positives, and of the negatives, it may not miss."""

    sensitivity: float = 0.95
    specificity: float = 0.9


def decide(raw: Numbers, truth: Truth, patients: NDArray[np.str_], *, wanted: Wanted) -> Decision:
    """Fit slope and intercept, then set threshold and band on the same outputs."""
    slope, intercept = platt(_logits(raw), truth)
    return decided(Decision(0.5, slope, intercept), raw, truth, patients, wanted=wanted)


def decided(fitted: Decision, raw: Numbers, truth: Truth, patients: NDArray[np.str_], *, wanted: Wanted) -> Decision:
    """Return the decision with the threshold that gives the stated sensitivity, and a band around it without a label.

    The band begins where the threshold might as well lie had other patients been asked (2.5 % of the bootstrap), and
    ends where it might (97.5 %), but not before the stated specificity is reached.
    """
    return decided_at(fitted, fitted.calibrate(raw), truth, patients, wanted=wanted)


def decided_at(
    fitted: Decision, probability: Numbers, truth: Truth, patients: NDArray[np.str_], *, wanted: Wanted
) -> Decision:
    """Do the same from calibrated probabilities."""

    def threshold(some: Numbers, theirs: Truth) -> float | None:
        return operating_point(some, theirs, sensitivity=wanted.sensitivity) if theirs.any() else None

    point = operating_point(probability, truth, sensitivity=wanted.sensitivity)
    low, high = figures.interval(threshold, probability, truth, patients=patients, seed=_SEED) or (point, point)
    enough = float(np.quantile(probability[~truth], wanted.specificity, method="higher"))
    # The last of the negatives that may be called positive is itself below.
    return replace(fitted, threshold=point, band=(min(low, point), max(high, float(np.nextafter(enough, 1)), point)))


def platt(logits: Numbers, truth: Truth) -> tuple[float, float]:
    """Return slope and intercept by maximum likelihood, with the softened targets of Platt 1999, by Newton's method."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    # Centred, so that slope and intercept do not fight each other.
    centre, spread = float(logits.mean()), float(logits.std()) or 1.0
    design = np.stack([(logits - centre) / spread, np.ones_like(logits)], axis=1)
    weights = np.zeros(2)
    for _ in range(_STEPS):
        probability = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (probability - target) + _RIDGE * weights
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design + _RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < _CLOSE:
            break
    slope = float(weights[0] / spread)
    return slope, float(weights[1] - slope * centre)


def loss(probability: Numbers, truth: Truth) -> float:
    """Return the cross-entropy, both classes weighing alike."""
    told = Decision(0.5, 1.0, 0.0).calibrate(probability)  # bounded away from 0 and 1
    return float(-(np.log(told[truth]).mean() + np.log(1 - told[~truth]).mean()) / 2)


def loss_when_calibrated(raw: Numbers, truth: Truth) -> float:
    """Return the loss that is left once these outputs are calibrated on themselves."""
    return loss(Decision(0.5, *platt(_logits(raw), truth)).calibrate(raw), truth)


def operating_point(probability: Numbers, truth: Truth, *, sensitivity: float) -> float:
    """Return the highest threshold at which at least `sensitivity` of the positives are called positive."""
    positives = np.sort(probability[truth])
    missed = int(np.floor((1 - sensitivity) * len(positives) + 1e-9))
    lowest = float(positives[min(missed, len(positives) - 1)])
    # Half-way to the next score below: a rounding error of another processor then changes no label.
    below = probability[probability < lowest]
    return (lowest + float(below.max(initial=0.0))) / 2


def _logits(raw: Numbers) -> Numbers:
    bounded = Decision(0.5, 1.0, 0.0).calibrate(raw)  # bounded away from 0 and 1 as serving bounds it
    return np.asarray(np.log(bounded / (1 - bounded)))
