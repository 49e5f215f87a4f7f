"""From grey levels to what a model was trained on, by the version of the preprocessing that stands with its weights."""

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from worker import lungs, unfolding
from worker.radiograph import PREPROCESSING, SIZE, Grey, prepare

Greys = NDArray[np.uint8] | Sequence[Grey]
Maps = NDArray[np.float32]

VERSIONS: Final = (PREPROCESSING, unfolding.VERSION)
"""The preprocessings that this code can do."""


class Prepare(Protocol):
    """From (n, SIZE, SIZE) grey levels to (n, SIZE, SIZE, 1) uint8, by the lungs of `maps` where they are given."""

    def __call__(self, greys: Greys, maps: Maps | None = None) -> Grey: ...


class PreparationUnknown(Exception):
    """This version of the program cannot prepare radiographs so; use the one that the model was trained with."""


def preparation(version: str, *, batch_size: int) -> Prepare:
    """Return what prepares radiographs for a model of this version, or raise PreparationUnknown."""
    if version == PREPROCESSING:
        return _plain
    if version == unfolding.VERSION:
        segmenter = lungs.Segmenter(lungs.weights(), batch_size=batch_size)

        def unfold(greys: Greys, maps: Maps | None = None) -> Grey:
            stacked = _stacked(greys)
            return unfolding.unfolded(stacked, segmenter.segment(stacked) if maps is None else maps)[0]

        return unfold
    raise PreparationUnknown(f"{version}: this program prepares {' or '.join(VERSIONS)}")


def _plain(greys: Greys, maps: Maps | None = None) -> Grey:  # noqa: ARG001 - it does not look for lungs
    return prepare(_stacked(greys))


def _stacked(greys: Greys) -> NDArray[np.uint8]:
    return np.asarray(greys, np.uint8).reshape(-1, SIZE, SIZE)
