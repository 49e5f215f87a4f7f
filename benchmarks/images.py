"""What is measured on: the shared originals, repeated."""

import itertools
from pathlib import Path

SHARED = Path(__file__).parents[2] / "shared" / "data" / "originals"


class ImagesMissing(Exception):
    """The shared originals are not there, and no others would give comparable figures."""


def originals() -> list[Path]:
    """Return the files, in the order of their names, or raise ImagesMissing."""
    found = sorted(path for path in SHARED.glob("*") if path.suffix in {".png", ".jpg", ".jpeg"})
    if not found:
        raise ImagesMissing(f"no images in {SHARED}")
    return found


def repeated(number: int) -> list[Path]:
    return list(itertools.islice(itertools.cycle(originals()), number))
