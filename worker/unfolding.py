"""Lays both lungs out on one rectangle: what is left is the lung's own texture, without outline, surroundings or exposure.

Each lung becomes half of the picture: rows from apex to base, columns from its left to its right edge in that row. Grey
levels are replaced by their rank among those of both lungs. The outline, the place and size in the picture, the aspect,
printed text, the border and the exposure are gone, for they tell the source of a radiograph better than its disease.
"""

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.radiograph import SIZE, Grey

VERSION: Final = "lungs128-1"
"""Version of `decode`, the segmenter's weights and `unfolded` together."""

STRIPS: Final = 16
"""Each lung is cut across into so many strips of equal height, in which edges are straight."""

LUNG: Final = 0.5
_LEAST: Final = 40.0  # pixels of a map of 64 x 64 in both lungs together; less is no lung
_LEAST_OF_ONE: Final = 15.0
_ROW: Final = 1.0  # pixels of lung in a row whose edges count
_ENDS: Final = (0.015, 0.985)  # of a lung's area above: apex and base, without stray pixels
_EDGES: Final = (0.03, 0.97)  # the same across one row
_INSET: Final = 0.03  # of height and width: the segmenter's edge is not sharp to the pixel
_SMOOTH: Final = 5  # rows
_BETWEEN: Final = 8  # columns from the centre of both lungs in which the gap between them is looked for
_MIDDLE: Final = (0.125, 0.09, 0.875, 0.84)  # left, top, right, bottom where no lungs were found

Maps = NDArray[np.float32]
Lines = NDArray[np.float64]


def unfolded(greys: NDArray[np.uint8], maps: Maps) -> tuple[Grey, NDArray[np.bool_]]:
    """Return the model's input (n, SIZE, SIZE, 1) uint8, and in which of them both lungs were found.

    `greys` is (n, SIZE, SIZE), `maps` what `lungs.Segmenter` says of them. Where no lungs were found the middle of the
    picture is laid out instead: it can be scored in a test, but no number should be given for it.
    """
    corners, found = outlines(maps)
    return laid_out(greys, corners), found


def laid_out(greys: NDArray[np.uint8], corners: Lines) -> Grey:
    """Return the model's input (n, SIZE, SIZE, 1) uint8 by these `outlines`."""
    pictures = np.empty((len(greys), SIZE, SIZE, 1), np.uint8)
    for picture, grey, lungs in zip(pictures, greys, corners, strict=True):
        picture[..., 0] = ranked(_laid_out(grey, lungs))
    return pictures


def outlines(maps: Maps) -> tuple[Lines, NDArray[np.bool_]]:
    """Return (n, 2, STRIPS + 1, 3): y, left and right of each lung as fractions; and where both lungs were found."""
    maps = np.where(maps >= LUNG, maps, np.float32(0))
    side = maps.shape[-1]
    columns = np.arange(side)
    gap = _gaps(maps)[:, np.newaxis, np.newaxis]
    lines = np.empty((len(maps), 2, STRIPS + 1, 3))
    found = maps.sum(axis=(1, 2)) >= _LEAST
    for place, one in enumerate((np.where(columns < gap, maps, 0), np.where(columns >= gap, maps, 0))):
        rows = one.sum(axis=2)
        found &= rows.sum(axis=1) >= _LEAST_OF_ONE
        top, bottom = _quantiles(rows, _ENDS)
        left, right = _quantiles(one, _EDGES)
        for number in np.flatnonzero(found):
            ends = (float(top[number]), float(bottom[number]))
            lines[number, place] = _lines(rows[number], ends, left=left[number], right=right[number])
    lines[found] /= side
    lines[~found] = _middle()
    return lines, found


def folded_back(heat: NDArray[np.float32], lungs: Lines) -> NDArray[np.float32]:
    """Return (SIZE, SIZE) with what stands on the laid-out lungs at its place in the radiograph, 0 elsewhere.

    `lungs` is one of `outlines`, (2, STRIPS + 1, 3).
    """
    centres = (np.arange(SIZE) + 0.5) / SIZE
    picture = np.zeros((SIZE, SIZE), np.float32)
    for place, lines in enumerate(lungs):
        top, bottom = lines[0, 0], lines[-1, 0]
        down = (centres - top) / (bottom - top)
        left, right = (np.interp(centres, lines[:, 0], lines[:, side])[:, np.newaxis] for side in (1, 2))
        across = (centres - left) / np.maximum(right - left, 1e-6)
        inside = (across >= 0) & (across < 1) & ((down >= 0) & (down < 1))[:, np.newaxis]
        rows = np.broadcast_to((down * SIZE).astype(int)[:, np.newaxis], inside.shape)[inside]
        columns = (place * SIZE // 2 + across * (SIZE // 2)).astype(int)[inside]
        picture[inside] = heat[rows, columns]
    return picture


def _lines(rows: Maps, ends: tuple[float, float], *, left: Lines, right: Lines) -> Lines:
    """(STRIPS + 1, 3) of one lung in pixels of its map; edges where there is no lung come from the rows beside."""
    valid = np.flatnonzero(rows > _ROW)
    if not len(valid):
        valid = np.array([int(rows.argmax())])
    top, bottom = ends
    inset = _INSET * (bottom - top)
    down = np.linspace(top + inset, bottom - inset, STRIPS + 1)
    from_left, from_right = (np.interp(down, valid + 0.5, _smooth(edge[valid])) for edge in (left, right))
    inset_across = _INSET * (from_right - from_left)
    return np.stack([down, from_left + inset_across, from_right - inset_across], axis=1)


def _gaps(maps: Maps) -> NDArray[np.int64]:
    """The column between the lungs: the emptiest near the centre of both."""
    across = maps.sum(axis=1)
    columns = np.arange(maps.shape[-1])
    centre = (across * columns).sum(axis=1) / np.maximum(across.sum(axis=1), 1e-6)
    padded = np.pad(across, ((0, 0), (1, 1)))
    smooth = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
    far = np.abs(columns - centre[:, np.newaxis])
    return np.asarray(np.where(far <= _BETWEEN, smooth + 0.05 * far, np.inf).argmin(axis=1))


def _quantiles(weights: Maps, shares: tuple[float, float]) -> list[Lines]:
    """Where along the last axis these shares of the weight lie before, in pixels; 0 where there is no weight."""
    sums = np.cumsum(weights, axis=-1, dtype=np.float32)
    places = []
    for share in shares:
        wanted = share * sums[..., -1:]
        place = (sums < wanted).sum(axis=-1, keepdims=True)
        here = np.take_along_axis(weights, place, axis=-1)
        before = np.take_along_axis(sums, place, axis=-1) - here
        places.append((place + (wanted - before) / np.maximum(here, 1e-6))[..., 0])
    return places


def _smooth(edge: Lines) -> Lines:
    beyond = np.ones(_SMOOTH // 2)
    padded = np.concatenate([edge[0] * beyond, edge, edge[-1] * beyond])  # np.pad does the same in five times as long
    return np.convolve(padded, np.full(_SMOOTH, 1 / _SMOOTH), mode="valid")


def _middle() -> Lines:
    """Both halves of the middle of the picture, as if they were lungs."""
    left, top, right, bottom = _MIDDLE
    down, half = np.linspace(top, bottom, STRIPS + 1), (left + right) / 2
    sides = [
        np.column_stack([down, np.full_like(down, a), np.full_like(down, b)]) for a, b in ((left, half), (half, right))
    ]
    return np.stack(sides)


def _laid_out(grey: Grey, lungs: Lines) -> Grey:
    high, wide = SIZE // STRIPS, SIZE // 2
    mesh = []
    for place, lines in enumerate((lungs * SIZE).tolist()):
        left = place * wide
        for strip, ((y, x0, x1), (below, below0, below1)) in enumerate(pairwise(lines)):
            target = (left, strip * high, left + wide, (strip + 1) * high)
            mesh.append((target, (x0, y, below0, below, below1, below, x1, y)))
    image = Image.fromarray(grey).transform((SIZE, SIZE), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
    return np.asarray(image)


def ranked(grey: Grey) -> Grey:
    """Each level's place among all, 0 to 255; equal levels share the middle of theirs, so that one level alone is 127."""
    counts = np.bincount(grey.reshape(-1), minlength=256)
    rank = (np.cumsum(counts) - counts / 2) * (255 / grey.size)
    return rank.astype(np.uint8)[grey]
