"""From grey levels to what a model was trained on, by the version of the preprocessing that stands with its weights."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker import lungs, unfolding
from worker.radiograph import PREPROCESSING, SIZE, Grey, prepare

Greys = NDArray[np.uint8] | Sequence[Grey]
Prepare = Callable[[Greys], Grey]

VERSIONS: Final = (PREPROCESSING, unfolding.VERSION)
"""The preprocessings that this code can do."""


class PreparationUnknown(Exception):
    """This version of the program cannot prepare radiographs so; use the one that the model was trained with."""


def preparation(version: str, *, batch_size: int) -> Prepare:
    """Return the function from (n, SIZE, SIZE) grey levels to (n, SIZE, SIZE, 1) uint8, or raise PreparationUnknown."""
    if version == PREPROCESSING:
        return lambda greys: prepare(_stacked(greys))
    if version == unfolding.VERSION:
        segmenter = lungs.Segmenter(lungs.weights(), batch_size=batch_size)

        def unfold(greys: Greys) -> Grey:
            stacked = _stacked(greys)
            return unfolding.unfolded(stacked, segmenter.segment(stacked))[0]

        return unfold
    raise PreparationUnknown(f"{version}: this program prepares {' or '.join(VERSIONS)}")


def _stacked(greys: Greys) -> NDArray[np.uint8]:
    return np.asarray(greys, np.uint8).reshape(-1, SIZE, SIZE)
