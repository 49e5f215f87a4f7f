"""Outlines of lungs as the segmenter might also have found them."""

import numpy as np

from worker.radiograph import SIZE
from worker.unfolding import Lines

_PLACE = 1.0  # pixels of a radiograph, spread of a lung's place
_STRETCH = 0.02  # of a lung's height and width, spread
_ENDS = 2.5  # how much more ragged the first and the last line of a lung are than the others


def moved(corners: Lines, random: np.random.Generator, *, ragged: float = 0.0) -> Lines:
    """Return (n, 2, any, 3) `unfolding.outlines`: each lung moved and stretched a little, each edge by `ragged` pixels more."""
    count = len(corners)
    places = corners + random.normal(0, _PLACE / SIZE, (count, 2, 1, 3))[..., [0, 1, 1]]
    middle = corners.mean(axis=2, keepdims=True)
    stretch = random.normal(0, _STRETCH, (count, 2, 1, 3))[..., [0, 1, 1]]
    across = middle[..., 1:].mean(axis=-1, keepdims=True)
    centre = np.concatenate([middle[..., :1], across, across], axis=-1)
    edges = random.normal(0, ragged / SIZE, corners.shape)
    edges[..., 0] = 0.0
    edges[:, :, [0, -1]] *= _ENDS
    return np.asarray(np.clip(places + stretch * (corners - centre) + edges, 0, 1))
