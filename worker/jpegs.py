"""The pixels of a JPEG, by libjpeg-turbo with its warnings: Pillow keeps these to itself, and paints over damage."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from simplejpeg import decode_jpeg

from worker.frames import JPEG_MARKER
from worker.rejection import ImageRejected

_DAMAGE: Final = ("Corrupt JPEG data", "Premature end of JPEG file", "Inconsistent progression")
"""How libjpeg begins what it says of pixels that it had to invent; its other warnings are about headers."""

_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_SEQUENTIAL: Final = {0xC0, 0xC1, 0xC9}  # starts of frame: a component's one scan tells all of it
_PROGRESSIVE: Final = {0xC2, 0xCA}  # each scan tells some coefficients, to some bit
_COEFFICIENTS: Final = 64
_MOST_COMPONENTS: Final = 4


def check_end(data: bytes) -> None:
    """Raise ImageRejected where the last marker is missing: decoders do without, and invent what was cut off."""
    if data.find(_END, data.find(_SCAN)) < 0:
        raise ImageRejected("truncated", "the compressed image ends before its last marker")


def check_scans(data: bytes) -> None:
    """Raise ImageRejected where a scan is missing that tells a component's coefficients to their last bit (ITU-T T.81, G.1).

    A progressive JPEG without its later scans is a blurred one, and has its last marker all the same.
    """
    missing: dict[int, set[int]] | None = None
    in_parts = False
    at = 2
    while (missing is None or any(missing.values())) and (found := JPEG_MARKER.search(data, at)):
        at = found.end()
        marker = data[at - 1]
        if marker == _END[1]:
            break
        length = int.from_bytes(data[at : at + 2])
        segment, at = data[at + 2 : at + length], at + length
        if marker in _SEQUENTIAL | _PROGRESSIVE:
            components = segment[6::3][:_MOST_COMPONENTS]
            missing = {name: set(range(_COEFFICIENTS)) for name in components}
            in_parts = marker in _PROGRESSIVE
        elif marker == _SCAN[1]:
            if missing is None:
                return  # lossless, say, where scans are not so
            first, last, bits = segment[-3:] if in_parts else (0, _COEFFICIENTS, 0)
            for name in segment[1:-3:2][:_MOST_COMPONENTS]:
                if not bits & 0xF:
                    missing.get(name, set()).difference_update(range(first, last + 1))
    if missing is None or any(missing.values()):
        raise ImageRejected("truncated", "the compressed image ends before its last scan")


def grey(data: bytes, width: int, height: int) -> NDArray[np.uint8] | None:
    """Return (height, width) grey levels, at one of the sizes that Pillow's `draft` chooses among.

    None where the picture has no grey of its own (CMYK), or is of a kind that only Pillow reads. Raises ImageRejected.
    """
    check_end(data)
    check_scans(data)
    try:
        return np.asarray(decode_jpeg(data, "GRAY", min_height=height, min_width=width)[..., 0])
    except ValueError as error:
        if str(error).startswith(_DAMAGE):
            raise ImageRejected("truncated", f"libjpeg: {error}") from error
        return None
