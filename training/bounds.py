"""How much the gate asks for: each number with its reason in docs/retraining.md."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """A group of fewer than `smallest_group` images of a class says nothing about that class, nor does such a fold."""

    auroc_loss: float = 0.02
    calibration_loss: float = 0.02
    probe_auroc: float = 0.65
    moved_score: float = 0.05
    floor_auroc: float = 0.55
    floor_positives: float = 0.8
    """Of a group's positives, so many are not called negative."""
    floor_negatives: float = 0.7
    """Of a group's negatives, so many are not called positive."""
    smallest_group: int = 10
    more_inconclusive: float = 0.1
    """Of the frozen fold, so many more images may get no label."""
    golden_difference: float = 0.01
    more_milliseconds: float = 2.0
    """Of the processor, an image."""
