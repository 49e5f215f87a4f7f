"""The compressed frame inside a DICOM file: its comments become zeros, its length stays."""

import struct
from collections.abc import Iterator

from api import jpegs
from api.pieces import Piece, Pieces
from worker.rejection import ImageRejected

_JPEG_2000 = {b"1.2.840.10008.1.2.4." + number for number in (b"90", b"91", b"201", b"202", b"203")}
_RLE = b"1.2.840.10008.1.2.5"
_JPEG_BEGINS, _JPEG_2000_BEGINS = b"\xff\xd8", b"\xff\x4f"
_COMMENT, _TILE = 0xFF64, 0xFF90  # ITU-T T.800, table A.2


def cleaned(data: Pieces, syntax: bytes) -> Iterator[Piece]:
    """Yield as many bytes as come in. Raises ImageRejected."""
    begins = data.peek(2)
    if syntax == _RLE:
        return data.rest()
    if begins != (_JPEG_2000_BEGINS if syntax in _JPEG_2000 else _JPEG_BEGINS):
        raise ImageRejected("truncated", "the compressed frame does not begin like one")
    return _jpeg_2000(data) if syntax in _JPEG_2000 else jpegs.cleaned(data, same_length=True)


def _jpeg_2000(data: Pieces) -> Iterator[Piece]:
    """The main header's segments one by one; from the first tile on, all of it."""
    yield data.read(2)
    while len(head := data.peek(4)) == 4:  # noqa: PLR2004 - marker and length
        marker, length = struct.unpack(">HH", head)
        if marker == _TILE or length < 2:  # noqa: PLR2004 - its own two bytes
            break
        yield data.read(4)
        payload = data.read(length - 2)
        yield bytes(len(payload)) if marker == _COMMENT else payload
    yield from data.rest()
