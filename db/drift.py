"""How much comes in in each bin, by day and model version, and how far that is from the training data."""

import math
from collections.abc import Sequence
from typing import Final

BINS: Final = 10
BOUND: Final = 0.25
"""Population stability index from which drift is an alarm; below 0.1 nothing has moved (Siddiqi 2006)."""


def stability_index(expected: Sequence[int], actual: Sequence[int]) -> float | None:
    """Sum over the bins of (a - e) ln(a / e) for their shares, with half a count added to each; None without counts."""
    if not sum(expected) or not sum(actual):
        return None
    shares = [[(count + 0.5) / (sum(counts) + 0.5 * len(counts)) for count in counts] for counts in (expected, actual)]
    return float(sum((a - e) * math.log(a / e) for e, a in zip(*shares, strict=True)))
