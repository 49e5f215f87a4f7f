"""The size of the frame inside a DICOM file: what it names itself, read without decoding it, against what the tags ask for."""

import re
import struct
from typing import Final

from worker.rejection import ImageRejected

JP2: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
"""How a JPEG 2000 file begins that wraps a codestream in boxes; DICOM wants none (PS3.5, A.4.4), and decoders read it."""

JPEG_MARKER: Final = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
"""Inside a scan, 0xFF is followed by less than 0x80 (T.81: 0; T.87: a stuffed bit) or is a restart."""

BOX: Final = struct.Struct(">I4s")
"""Length of a box, with these eight bytes, and its name (ITU-T T.800, I.4)."""

CODESTREAM_BOX: Final = b"jp2c"

_SIZE, _SIZE_AND_TILES = struct.Struct(">8x4I"), struct.Struct(">8x8I")
_TILE_PART, _TILE_DATA = b"\xff\x90", b"\xff\x93"
_MOST_TILES = 65_535
_TILE_PART_HEADER = struct.Struct(">4xHIBB")  # which tile, how long, which part of it, of how many (T.800, A.4.2)
_HOLE = bytes(1024)  # of a block of a disk that nobody wrote: packed data has no such run, at a black border neither
_FRAMES = {0xFFC0, 0xFFC1, 0xFFC2, 0xFFC3, 0xFFF7}  # Huffman-coded ones, and that of JPEG-LS
_FILL = 0xFFFF


def check_length(length: int, asked: int, *, rows: int) -> bool:
    """Raise ImageRejected where uncompressed pixels are too few, or are more and would fit longer rows or another frame.

    Then each row would begin where another one goes on: stripes that may still look like a chest. Return whether they
    would fit more rows, so that what stands behind must be zeros; other bytes there are nobody's.
    """
    if not asked or length < asked:
        raise ImageRejected("truncated", "fewer pixels than the tags ask for")
    many = [beyond for beyond in (length - asked, length - asked - 1) if beyond > 1]  # the last byte may only pad
    if any(beyond % asked == 0 for beyond in many):
        raise ImageRejected("multi_frame", "more than one frame")
    if any(beyond % rows == 0 for beyond in many):
        raise ImageRejected("truncated", "the tags and the pixels name different sizes")
    return any(beyond % max(asked // rows, 1) == 0 for beyond in many)


def check_zeros(behind: bytes) -> None:
    """Raise ImageRejected where what stands behind the pixels is more than padding."""
    if behind.strip(b"\0"):
        raise ImageRejected("truncated", "more rows than the tags tell")


def size_of_jpeg_2000(frame: bytes) -> tuple[int, int]:
    """Rows and columns by the SIZ segment, the first one (ITU-T T.800, A.5.1)."""
    right, bottom, left, top = _SIZE.unpack_from(frame, _codestream(frame) if frame.startswith(JP2) else 0)
    return bottom - top, right - left


def check_tiles(frame: bytes) -> None:
    """Raise ImageRejected where a tile of a JPEG 2000 frame, or a part of one, is missing or has a hole: decoders go on without."""
    at = _codestream(frame) if frame.startswith(JP2) else 0
    right, bottom, _, _, width, height, left, top = _SIZE_AND_TILES.unpack_from(frame, at)
    many = -(-(right - left) // width) * -(-(bottom - top) // height)
    if many > _MOST_TILES:
        raise ImageRejected("truncated", "more tiles than can be numbered")
    told, found = dict.fromkeys(range(many), 1), dict.fromkeys(range(many), 0)  # parts of each tile
    at = _behind_segments(frame, at + 2, until=_TILE_PART)
    while frame.startswith(_TILE_PART, at):
        tile, length, _, of = _TILE_PART_HEADER.unpack_from(frame, at)
        data = _behind_segments(frame, at + _TILE_PART_HEADER.size, until=_TILE_DATA)
        end = at + length if length else len(frame.rstrip(b"\0"))  # the last one may reach to the end (T.800, A.4.2)
        if end < data or tile not in found or frame.find(_HOLE, data, end) >= 0:
            raise ImageRejected("truncated", "a hole in the compressed image")
        told[tile], found[tile] = max(told[tile], of), found[tile] + 1
        at = end
    if any(found[tile] < told[tile] for tile in found):
        raise ImageRejected("truncated", "the compressed image ends before its last tile")


def _behind_segments(frame: bytes, at: int, *, until: bytes) -> int:
    while not frame.startswith(until, at):
        (length,) = struct.unpack_from(">H", frame, at + 2)
        at += 2 + length
    return at


def _codestream(frame: bytes) -> int:
    at, name = 0, b""
    while name != CODESTREAM_BOX:
        length, name = BOX.unpack_from(frame, at)
        if length < BOX.size:
            raise ImageRejected("truncated", "a box shorter than its header")
        at += BOX.size if name == CODESTREAM_BOX else length
    return at


def size_of_jpeg(frame: bytes) -> tuple[int, int]:
    """Rows and columns by the start of frame (ITU-T T.81, B.2.2); libjpeg's own answer decodes the image for it."""
    at = 2
    while True:
        marker, length = struct.unpack_from(">HH", frame, at)
        if marker in _FRAMES:
            rows, columns = struct.unpack_from(">HH", frame, at + 5)
            return rows, columns
        at += 1 if marker == _FILL else 2 + length
