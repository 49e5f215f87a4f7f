"""From raw outputs on the validation fold to the Decision that serving uses."""

import numpy as np
from numpy.typing import NDArray

from worker.predictor import Decision

_STEPS = 100
_CLOSE = 1e-10
_RIDGE = 1e-6  # keeps the Newton step defined where the raw outputs separate the classes

Numbers = NDArray[np.float64]
Truth = NDArray[np.bool_]


def decide(raw: Numbers, truth: Truth, *, sensitivity: float) -> Decision:
    """Fit slope and intercept, then set the threshold that gives the stated sensitivity on the same outputs."""
    slope, intercept = platt(_logits(raw), truth)
    fitted = Decision(0.5, slope, intercept)
    threshold = operating_point(fitted.calibrate(raw), truth, sensitivity=sensitivity)
    return Decision(threshold, slope, intercept)


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
