"""The same radiograph with parts taken away: what a model still scores there is not disease."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data import Radiographs
from worker.radiograph import SIZE

Greys = NDArray[np.uint8]
Masks = NDArray[np.bool_]

_TOGETHER: Final = 64

BORDER: Final = SIZE // 8
"""Width of the frame that the border-only probe leaves, in pixels."""


def lungs_only(greys: Greys, masks: Masks) -> Greys:
    """Return (n, SIZE, SIZE) with everything outside the lungs set to the radiograph's mean grey."""
    mean = greys.mean(axis=(1, 2), keepdims=True)
    return np.where(masks, greys, np.rint(mean).astype(np.uint8))


def lungs_blanked(greys: Greys, masks: Masks) -> Greys:
    """Return (n, SIZE, SIZE) with the lungs set to their mean grey: nothing of the disease is left."""
    return _blanked(greys, masks)


def border_only(greys: Greys, masks: Masks | None = None) -> Greys:
    """Return (n, SIZE, SIZE) with all but a frame of BORDER pixels set to its mean grey, and the lungs in the frame where given."""
    inside = np.zeros((SIZE, SIZE), np.bool_)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    return _blanked(greys, np.broadcast_to(inside, greys.shape) if masks is None else inside | masks)


def halved(masks: Masks) -> NDArray[np.float32]:
    """Return masks as the segmenter's maps, (n, SIZE / 2, SIZE / 2): a probe that hides lungs may then say where they were."""
    tiles = masks.reshape(-1, SIZE // 2, 2, SIZE // 2, 2)
    return np.asarray(tiles.mean(axis=(2, 4), dtype=np.float32))


def enlarged(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the segmenter's maps at (n, SIZE, SIZE), between pixels by straight lines."""
    sized = [np.asarray(Image.fromarray(each).resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for each in maps]
    return np.stack(sized)


def masks_of(radiographs: Radiographs) -> Masks:
    """Return the drawn masks, and what the segmenter finds where nobody drew one."""
    missing = ~radiographs.masks.any(axis=(1, 2))
    if not missing.any():
        return radiographs.masks
    from worker import lungs  # noqa: PLC0415 - loads TensorFlow, which the shipped model's reader does not want

    maps = lungs.Segmenter(lungs.weights(), batch_size=_TOGETHER).segment(radiographs.greys[missing])
    masks = radiographs.masks.copy()
    masks[missing] = enlarged(maps) >= lungs.LUNG
    return masks


def _blanked(greys: Greys, where: Masks) -> Greys:
    total = np.where(where, greys, 0).sum(axis=(1, 2), keepdims=True, dtype=np.float64)
    mean = total / np.maximum(where.sum(axis=(1, 2), keepdims=True), 1)
    return np.where(where, np.rint(mean).astype(np.uint8), greys)
