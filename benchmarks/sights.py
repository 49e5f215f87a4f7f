"""What a network may be shown of a radiograph: the ways that `benchmarks.tries` compares."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from training.probes import enlarged
from worker import lungs, unfolding
from worker.radiograph import SIZE

Greys = NDArray[np.uint8]
Maps = NDArray[np.float32]
Sight = Callable[[Greys, Maps], Greys]
"""From (n, SIZE, SIZE) grey levels and the segmenter's maps of them to (n, SIZE, SIZE)."""

_MIDDLE: Final = 127.5
_SPREAD: Final = 50.0  # grey levels of one standard deviation
_MARGIN: Final = 0.04  # of the picture, around the lungs
_NUDGE: Final = 1.0  # pixels of a radiograph, spread of a lung's place
_STRETCH: Final = 0.02  # of a lung's height and width, spread


def plain(greys: Greys, maps: Maps) -> Greys:  # noqa: ARG001 - it does not look for lungs
    return greys


def standardised(greys: Greys, maps: Maps) -> Greys:  # noqa: ARG001
    """Mean and spread of each picture made alike."""
    return _levelled(greys, np.ones(greys.shape, np.bool_))


def matched(greys: Greys, maps: Maps) -> Greys:  # noqa: ARG001
    """The histogram of each picture made that of a bell curve: no source keeps one of its own."""
    bell = np.clip(_MIDDLE + _SPREAD * np.random.default_rng(0).standard_normal(SIZE * SIZE), 0, 255)
    levels = np.quantile(bell, np.linspace(0, 1, 256)).astype(np.uint8)
    return np.stack([levels[unfolding.ranked(grey)] for grey in greys])


def cropped(greys: Greys, maps: Maps) -> Greys:
    """Cut out around the lungs, standardised inside them."""
    cut, masks = _cut_out(greys, maps)
    return _levelled(cut, masks)


def masked(greys: Greys, maps: Maps) -> Greys:
    """Cut out around the lungs, all else grey, ranks inside them."""
    cut, masks = _cut_out(greys, maps)
    seen = np.full(cut.shape, int(_MIDDLE), np.uint8)
    for picture, grey, mask in zip(seen, cut, masks, strict=True):
        if mask.any():
            picture[mask] = unfolding.ranked(grey[mask])
    return seen


def unfolded(greys: Greys, maps: Maps) -> Greys:
    """What serving does."""
    return unfolding.unfolded(greys, maps)[0][..., 0]


def coarse(greys: Greys, maps: Maps) -> Greys:
    """Unfolded, without its finest detail: Gauss, 2 pixels."""
    return np.stack([_blurred(grey, 2) for grey in unfolded(greys, maps)])


def fine(greys: Greys, maps: Maps) -> Greys:
    """Unfolded, its finer texture alone: what Gauss with 1 pixel leaves and with 6 takes away."""
    seen = unfolded(greys, maps)
    band = np.stack([_blurred(grey, 1).astype(np.float32) - _blurred(grey, 6) for grey in seen])
    return np.clip(_MIDDLE + 2 * band, 0, 255).astype(np.uint8)


def nudged(greys: Greys, maps: Maps, random: np.random.Generator) -> Greys:
    """Unfolded, each lung's outline moved by about a pixel and stretched by about a fiftieth."""
    corners, _ = unfolding.outlines(maps)
    pictures: Greys = unfolding.laid_out(greys, _moved(corners, random))[..., 0]
    return pictures


def _moved(corners: unfolding.Lines, random: np.random.Generator) -> unfolding.Lines:
    """Return `outlines` as the segmenter might also have found them: each lung moved and stretched a little."""
    count = len(corners)
    moved = corners + random.normal(0, _NUDGE / SIZE, (count, 2, 1, 3))[..., [0, 1, 1]]
    middle = corners.mean(axis=2, keepdims=True)
    stretch = random.normal(0, _STRETCH, (count, 2, 1, 3))[..., [0, 1, 1]]
    across = middle[..., 1:].mean(axis=-1, keepdims=True)
    centre = np.concatenate([middle[..., :1], across, across], axis=-1)
    return np.asarray(np.clip(moved + stretch * (corners - centre), 0, 1))


def _blurred(grey: Greys, radius: float) -> Greys:
    return np.asarray(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(radius)))


def _levelled(greys: Greys, where: NDArray[np.bool_]) -> Greys:
    count = np.maximum(where.sum(axis=(1, 2), keepdims=True), 1)
    levels = greys.astype(np.float32)
    mean = np.where(where, levels, 0).sum(axis=(1, 2), keepdims=True) / count
    spread = np.sqrt(np.where(where, (levels - mean) ** 2, 0).sum(axis=(1, 2), keepdims=True) / count)
    return np.asarray(np.clip(_MIDDLE + _SPREAD * (levels - mean) / (spread + 1), 0, 255), np.uint8)


def _cut_out(greys: Greys, maps: Maps) -> tuple[Greys, NDArray[np.bool_]]:
    """Both (n, SIZE, SIZE): the lungs' box of each picture as large as a picture, and the lungs in it."""
    cut, masks = np.empty_like(greys), np.empty(greys.shape, np.bool_)
    for place, (grey, own, large) in enumerate(zip(greys, maps, enlarged(maps), strict=True)):
        box = lungs.findings(own).box or lungs.Box(0, 0, 1, 1)
        left, top = max(0.0, box.left - _MARGIN), max(0.0, box.top - _MARGIN)
        right, bottom = min(1.0, box.right + _MARGIN), min(1.0, box.bottom + _MARGIN)
        edges = (left * SIZE, top * SIZE, right * SIZE, bottom * SIZE)
        sized = [
            Image.fromarray(each).resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=edges) for each in (grey, large)
        ]
        cut[place], masks[place] = np.asarray(sized[0]), np.asarray(sized[1]) >= lungs.LUNG
    return cut, masks
