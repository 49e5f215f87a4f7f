"""Levels of more than 8 bits: shown by the depth that is really used, whatever the file has room for."""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

_DEPTHS: Final = (8, 10, 12, 14, 16)
# Of 16-bit colour Pillow keeps the high bytes alone; read as if it were this, it keeps the low ones.
_LOW_BYTES: Final = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L", "LA;16B": "RGBA"}
_MANY: Final = 1000  # one pixel of so many is a few
_FAR_ABOVE: Final = 2  # bits: four times as high as all else, at the least
_LINES: Final = 512  # of a picture are enough to count: all of them would take as long as decoding them
_IN_FULL: Final = 1 << 14 - 8  # a high byte from here on is of a level that needs all 16 bits


def depth(highest: int) -> int:
    """Return of how many bits a picture with this highest level is: 8, 10, 12, 14 or 16."""
    return next(bits for bits in _DEPTHS if highest < 1 << bits)


def histogram(levels: NDArray[np.generic], *, places: int = 1) -> NDArray[np.int_]:
    """Count how many pixels, (rows, columns, ...), have each level; of a large picture, every so many of its pixels."""
    apart = max(1, min(levels.shape[:2]) // _LINES)
    return np.bincount(levels[::apart, ::apart].ravel(), minlength=places)


def used(counts: NDArray[np.int_]) -> tuple[int, int]:
    """Return the lowest and the highest level of a histogram that more than a few pixels go to, or beyond.

    A burnt-in letter or a dead pixel is white whatever the radiograph is; it does not say how deep that is. Nor does a
    marker, of however many pixels, whose one level stands alone far above all others.
    """
    reached = np.cumsum(counts)
    few = int(reached[-1]) // _MANY
    below = int(np.searchsorted(reached, reached[-1], side="left"))  # the highest level that any pixel has
    lowest, highest = _between(reached, few)
    if highest == below and below:
        under = _between(reached[:below], few)
        if reached[below - 1] and depth(below) - depth(under[1]) >= _FAR_ABOVE:
            return under
    return lowest, highest


def _between(reached: NDArray[np.int_], few: int) -> tuple[int, int]:
    return int(np.searchsorted(reached, few, side="right")), int(np.searchsorted(reached, reached[-1] - few))


def highest(levels: NDArray[np.generic]) -> int:
    """Return the highest level that more than a few pixels have, or go beyond."""
    return used(histogram(levels))[1]


def shown(levels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Map 16-bit storage to 0-255 by the depth really used.

    convert("L") clips at 255, which turns a 16-bit X-ray white.
    """
    white = (1 << depth(highest(levels))) - 1
    table = np.minimum(np.arange(1 << _DEPTHS[-1]), white) * 255 // white
    return np.asarray(table.astype(np.uint8)[levels])


def stored(image: ImageFile.ImageFile) -> str:
    """How a file that is opened, but not read yet, stores its pixels, in Pillow's words."""
    return str(image.tile[0].args) if image.tile else ""


def deepened(image: Image.Image, data: bytes, kind: str) -> Image.Image:
    """Return 16-bit colour, which came as its high bytes, by the depth really used; `kind` is how it was `stored`."""
    if kind not in _LOW_BYTES or highest(np.asarray(image)[..., :3]) >= _IN_FULL:
        return image
    high = np.asarray(image).astype(np.uint16) << 8
    with Image.open(io.BytesIO(data), formats=("PNG",)) as again:
        again.tile = [again.tile[0]._replace(args=_LOW_BYTES[kind])]
        low = np.asarray(again)
    if kind == "LA;16B":  # two bytes of grey, two of alpha
        low = low[..., [1, 1, 1, 3]]
    levels = high | low
    whole = shown(levels[..., :3])
    return Image.fromarray(whole if kind == "RGB;16B" else np.dstack([whole, (levels[..., 3] >> 8).astype(np.uint8)]))
