"""The pixels of a JPEG, by libjpeg-turbo with its warnings: Pillow keeps these to itself, and paints over damage."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from simplejpeg import decode_jpeg

from worker.rejection import ImageRejected

_DAMAGE: Final = ("Corrupt JPEG data", "Premature end of JPEG file", "Inconsistent progression")
"""How libjpeg begins what it says of pixels that it had to invent; its other warnings are about headers."""

_SCAN, _END = b"\xff\xda", b"\xff\xd9"


def check_end(data: bytes) -> None:
    """Raise ImageRejected where the last marker is missing: decoders do without, and invent what was cut off."""
    if data.find(_END, data.find(_SCAN)) < 0:
        raise ImageRejected("truncated", "the compressed image ends before its last marker")


def grey(data: bytes, width: int, height: int) -> NDArray[np.uint8] | None:
    """Return (height, width) grey levels, at one of the sizes that Pillow's `draft` chooses among.

    None where the picture has no grey of its own (CMYK), or is of a kind that only Pillow reads. Raises ImageRejected.
    """
    check_end(data)
    try:
        return np.asarray(decode_jpeg(data, "GRAY", min_height=height, min_width=width)[..., 0])
    except ValueError as error:
        if str(error).startswith(_DAMAGE):
            raise ImageRejected("truncated", f"libjpeg: {error}") from error
        return None
