"""What a person means by a path: the images in a folder, or the file that was named."""

from collections.abc import Sequence
from pathlib import Path

from terminal import fail, words
from worker.formats import MAGIC_BYTES, media_type

_SUFFIXES = {".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".zip"}  # broken ones too: the answer says so


def images_in(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """(custom_id, path) of every image below `paths`, or end the command; the id is the path as it was given."""
    found: list[Path] = []
    for path in paths:
        found += _inside(path) if path.is_dir() else [path]
    if not found:
        fail(f"no PNG, JPEG, DICOM or zip files in {', '.join(map(str, paths))}", code="no_images")
    return [(str(path), path) for path in dict.fromkeys(found)]


def _inside(folder: Path) -> list[Path]:
    files = sorted(inner for inner in folder.rglob("*") if inner.is_file() and not inner.name.startswith("."))
    images = [file for file in files if file.suffix.lower() in _SUFFIXES or _begins_like_an_image(file)]
    if left := len(files) - len(images):
        words.print(
            f"{folder}: {left} {'file is' if left == 1 else 'files are'} left out: no PNG, JPEG, DICOM or zip",
            markup=False,
        )
    return images


def _begins_like_an_image(path: Path) -> bool:
    """Scanners name DICOM files by their UID, without an ending."""
    with path.open("rb") as file:
        return media_type(file.read(MAGIC_BYTES)) is not None
