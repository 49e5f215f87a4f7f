"""The whole files that are mutated: every kind that the service reads, small."""

import io
import zipfile
from collections.abc import Sequence

from PIL import Image

from tests import dicoms, pictures
from tests.planted import planted
from training import phantoms
from worker.radiograph import Grey

_SMALL = 48


def images() -> list[bytes]:
    """PNG and JPEG of every kind."""
    made = [make() for make in pictures.EXACT.values()]
    grey = pictures.grey_image()
    small = grey.resize((_SMALL, _SMALL))
    made += [pictures.saved(image, "JPEG", progressive=way) for image in (grey, small) for way in (False, True)]
    made += [pictures.saved(small.convert(mode)) for mode in ("L", "1", "P", "RGB", "RGBA", "LA")]
    made += [pictures.saved(small.convert(mode), "JPEG") for mode in ("RGB", "CMYK")]
    made += [pictures.saved(Image.fromarray(grey), kind) for grey in _frontal() for kind in ("PNG", "JPEG")]
    return made + [data for place, data in planted().items() if not place.startswith("DICOM")]


def dicom() -> list[bytes]:
    """DICOM in every encoding."""
    made = [dicoms.written(make()) for make in dicoms.EXACT.values()]
    made += [dicoms.written(dicoms.radiograph(dicoms.CHEST[:_SMALL, :_SMALL])) for _ in range(8)]
    made += [dicoms.written(dicoms.radiograph(grey)) for grey in _frontal()]
    return made + [data for place, data in planted().items() if place.startswith("DICOM")]


def _frontal() -> list[Grey]:
    """What the gate lets through to the model, as long as it is not too damaged."""
    return [phantoms.phantom(seed, size=192) for seed in range(8)]


def archive(files: Sequence[bytes], *, deflated: bool) -> bytes:
    """A zip of these files, with a comment and a folder."""
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        made.comment = b"a comment"
        made.writestr("folder/", b"")
        for number, data in enumerate(files):
            made.writestr(f"folder/{number}.png", data)
    return buffer.getvalue()
