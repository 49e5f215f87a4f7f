"""Changes of a radiograph that say nothing about disease: a score should hardly move under them."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from worker.radiograph import SIZE

Greys = NDArray[np.uint8]
Change = Callable[[Greys], Greys]

_QUALITY: Final = 75
_GAMMA: Final = 0.2
_SHIFT: Final = round(0.03 * SIZE)  # pixels


def jpeg(greys: Greys) -> Greys:
    """Return them after a JPEG of quality 75."""
    return np.stack([_through_jpeg(grey) for grey in greys])


def brighter(greys: Greys) -> Greys:
    """Return them with a gamma of 0.8."""
    return _gamma(greys, 1 - _GAMMA)


def darker(greys: Greys) -> Greys:
    """Return them with a gamma of 1.2."""
    return _gamma(greys, 1 + _GAMMA)


def shifted(greys: Greys) -> Greys:
    """Return them moved by 3 % of the edge to the right and down, the edge repeated."""
    padded = np.pad(greys, ((0, 0), (_SHIFT, 0), (_SHIFT, 0)), mode="edge")
    return padded[:, :SIZE, :SIZE]


def printed(greys: Greys) -> Greys:
    """Return them with letters in two corners, as machines print them."""
    return np.stack([_with_text(grey) for grey in greys])


CHANGES: Final[dict[str, Change]] = {
    "jpeg_75": jpeg,
    "gamma_0.8": brighter,
    "gamma_1.2": darker,
    "shift_3_percent": shifted,
    "printed_text": printed,
}


@dataclass(frozen=True)
class Moved:
    """By how much the probability moves, either way: of half of the radiographs by no more, of 95 in 100 by no more."""

    median: float
    most: float


def moved(change: Change, greys: Greys, scores: NDArray[np.float64], scorer: Callable[[Greys], Any]) -> Moved:
    """Return how the scores of the radiographs move under the change."""
    distance = np.abs(scorer(change(greys)) - scores)
    median, most = np.percentile(distance, [50, 95])
    return Moved(float(median), float(most))


def _gamma(greys: Greys, gamma: float) -> Greys:
    levels = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return levels[greys]


def _through_jpeg(grey: Greys) -> Greys:
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG", quality=_QUALITY)
    return np.asarray(Image.open(buffer))


def _with_text(grey: Greys) -> Greys:
    image = Image.fromarray(grey)
    draw = ImageDraw.Draw(image)
    draw.text((3, 2), "L", fill=255)
    draw.text((SIZE - 36, SIZE - 13), "AP 12", fill=255)
    return np.asarray(image)
