"""The same radiograph as another scanner, file format or crop would give it, drawn once before training."""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from worker.radiograph import SIZE, Grey

_TURN: Final = 8.0  # degrees
_SHIFT: Final = 4  # pixels
_SMALLEST, _LARGEST = 56, 110  # pixels of edge that a coarser scan would have
_WORST, _BEST = 25, 90  # JPEG quality
_HALF, _OFTEN = 0.5, 0.8  # how many get a change
_COARSER, _SHARPER, _SOFTER = 0.35, 0.5, 0.65  # up to here, of the draw that chooses one of the three


def exposures(greys: NDArray[np.uint8], count: int, *, seed: int) -> NDArray[np.uint8]:
    """Return (1 + count, n, SIZE, SIZE): the radiographs as they are, then `count` times each as it might have been."""
    random = np.random.default_rng(seed)
    changed = [np.stack([_changed(grey, random) for grey in greys]) for _ in range(count)]
    return np.stack([greys, *changed])


def _changed(grey: Grey, random: np.random.Generator) -> Grey:
    image = Image.fromarray(grey)
    if random.random() < _OFTEN:
        across, down = (int(shift) for shift in random.integers(-_SHIFT, _SHIFT + 1, 2))
        turn = random.uniform(-_TURN, _TURN)
        image = image.rotate(turn, Image.Resampling.BILINEAR, translate=(across, down), fillcolor=0)
    levels = np.asarray(_other_sharpness(image, random), np.float32) / 255
    levels = levels ** np.exp(random.uniform(-0.5, 0.5))
    levels = (levels - 0.5) * (1 + random.uniform(-0.35, 0.35)) + 0.5 + random.uniform(-0.1, 0.1)
    if random.random() < _HALF:  # uneven light
        light = Image.fromarray(random.normal(0, 0.08, (3, 3)).astype(np.float32))
        levels = levels + np.asarray(light.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    if random.random() < _HALF:
        levels = levels + random.normal(0, random.uniform(0, 0.04), levels.shape)
    image = Image.fromarray((np.clip(levels, 0, 1) * 255).astype(np.uint8))
    return np.asarray(_through_jpeg(image, random) if random.random() < _HALF else image)


def _other_sharpness(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Coarser, sharpened, softened or as it was, each about as often."""
    kind = random.random()
    if kind < _COARSER:
        edge = int(random.uniform(_SMALLEST, _LARGEST))
        shrink = Image.Resampling.BILINEAR if random.random() < _HALF else Image.Resampling.BOX
        enlarge = Image.Resampling.BICUBIC if random.random() < _HALF else Image.Resampling.BILINEAR
        return image.resize((edge, edge), shrink).resize((SIZE, SIZE), enlarge)
    if kind < _SHARPER:
        return image.filter(ImageFilter.UnsharpMask(random.uniform(0.8, 2.5), int(random.uniform(30, 150)), 0))
    if kind < _SOFTER:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.1)))
    return image


def _through_jpeg(image: Image.Image, random: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(random.uniform(_WORST, _BEST)))
    return Image.open(buffer)
