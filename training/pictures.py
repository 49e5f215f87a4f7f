"""Pictures of anything else, as scikit-image, scikit-learn and matplotlib bring them: half to learn, half to test."""

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_PLACES = (("skimage", "data"), ("sklearn", "datasets/images"), ("matplotlib", "mpl-data/sample_data"))
_FACES = "lfw_subset.npy"
_EVERY_FACE = 10


class PicturesMissing(Exception):
    """A package that brings pictures is not installed: `make setup` does that."""


def half(number: int) -> list[NDArray[np.uint8]]:
    """Return every other picture, in grey: 0 is for learning, 1 for testing; none is in both."""
    paths = [path for place in _PLACES for path in sorted(_folder(*place).iterdir())]
    pictures = [_grey(path) for path in paths if path.suffix in {".png", ".jpg"}]
    faces = np.load(_folder(*_PLACES[0]) / _FACES)[::_EVERY_FACE]
    pictures += [(face * 255 / face.max()).astype(np.uint8) for face in faces]
    return pictures[number::2]


def _folder(package: str, inside: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise PicturesMissing(f"{package} is not installed: run `make setup`")
    return Path(found.origin).parent / inside


def _grey(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").convert("L"))
