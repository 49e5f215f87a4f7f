"""The compressed frame inside a DICOM file: what its pixels do not need becomes zeros, its length stays."""

import re
import struct
from collections.abc import Iterator
from itertools import pairwise

from api import jpegs
from api.pieces import Piece, Pieces
from worker.frames import BOX, CODESTREAM_BOX, JP2
from worker.rejection import ImageRejected

_JPEG_2000 = {b"1.2.840.10008.1.2.4." + number for number in (b"90", b"91", b"201", b"202", b"203")}
_RLE = b"1.2.840.10008.1.2.5"
_JPEG_BEGINS, _JPEG_2000_BEGINS = b"\xff\xd8", b"\xff\x4f"
_TILE_PART, _TILE_DATA, _ENDS = b"\xff\x90", b"\xff\x93", b"\xff\xd9"
# ITU-T T.800, table A.2, T.801 and T.814: all that have a length, but comments.
_NEEDED = {*range(0xFF50, 0xFF62), 0xFF63, *range(0xFF70, 0xFF79)}
_TILE_PART_BYTES = 12  # the segment that begins a tile-part, with its marker
_END = re.compile(re.escape(_ENDS))  # compressed data never holds it (T.800, B.10.1 and C.2.1)
_MOST_WRAPPING = 1 << 20
_RLE_HEADER = struct.Struct("<16I")  # PS3.5, annex G.5


def cleaned(data: Pieces, syntax: bytes, *, pixels: int) -> Iterator[Piece]:
    """Yield as many bytes as come in; `pixels` is how many the frame has. Raises ImageRejected."""
    if syntax == _RLE:
        return _rle(data, pixels)
    if syntax in _JPEG_2000 and data.peek(len(JP2)) == JP2:
        return _unwrapped(data)
    if data.peek(2) != (_JPEG_2000_BEGINS if syntax in _JPEG_2000 else _JPEG_BEGINS):
        raise ImageRejected("truncated", "the compressed frame does not begin like one")
    return _jpeg_2000(data) if syntax in _JPEG_2000 else jpegs.cleaned(data, same_length=True)


def _unwrapped(data: Pieces) -> Iterator[Piece]:
    """The codestream without the boxes of a JPEG 2000 file, which may hold any text, and as many zeros behind it."""
    dropped, name = 0, b""
    while name != CODESTREAM_BOX:
        length, name = BOX.unpack(data.read(BOX.size))
        size = BOX.size if name == CODESTREAM_BOX else length
        if size < BOX.size or dropped + size > _MOST_WRAPPING:
            raise ImageRejected("truncated", "no codestream where one should begin")
        data.skip(size - BOX.size)
        dropped += size
    if data.peek(2) != _JPEG_2000_BEGINS:
        raise ImageRejected("truncated", "a box without the codestream that it names")
    yield from _jpeg_2000(data)
    yield bytes(dropped)


def _jpeg_2000(data: Pieces) -> Iterator[Piece]:
    """The main header, then each tile-part, and zeros for what stands behind the last one."""
    yield data.read(2)
    yield from _segments(data, until=_TILE_PART)
    while (follows := data.peek(2)) == _TILE_PART:
        yield from _tile_part(data)
    if follows == _ENDS:
        yield data.read(2)
    elif follows.strip(b"\0"):
        raise ImageRejected("truncated", "no tile where one should begin")
    yield from _zeros(data.rest())


def _tile_part(data: Pieces) -> Iterator[Piece]:
    """By the length that it tells; the last one may tell 0, and then it reaches to the end (T.800, A.4.2)."""
    begins = data.read(_TILE_PART_BYTES)
    yield begins
    (length,) = struct.unpack_from(">I", begins, 6)
    left = length - _TILE_PART_BYTES - 2
    for piece in _segments(data, until=_TILE_DATA):
        left -= len(piece)
        yield piece
    yield data.read(2)
    if not length:
        yield from jpegs.scan(data, until=_END)
    elif left < 0:
        raise ImageRejected("truncated", "a tile shorter than its header")
    else:
        yield from data.through(left)


def _segments(data: Pieces, *, until: bytes) -> Iterator[bytes]:
    """The segments before a marker, each as long as it was."""
    while data.peek(2) != until:
        head = data.read(4)
        marker, length = struct.unpack(">HH", head)
        if length < 2:  # noqa: PLR2004 - its own two bytes
            raise ImageRejected("truncated", "a segment shorter than its length")
        payload = data.read(length - 2)
        yield head + (payload if marker in _NEEDED else bytes(len(payload)))


def _rle(data: Pieces, pixels: int) -> Iterator[Piece]:
    """The segments where the header says that they begin, each as far as it has pixels."""
    count, *offsets = _RLE_HEADER.unpack(data.read(_RLE_HEADER.size))
    if not 1 <= count <= len(offsets):
        raise ImageRejected("truncated", "an RLE frame without segments")
    begins = offsets[:count]
    yield _RLE_HEADER.pack(count, *begins, *[0] * (len(offsets) - count))
    gaps = [end - begin for begin, end in pairwise([_RLE_HEADER.size, *begins])]
    if min(gaps) < 0:
        raise ImageRejected("truncated", "RLE segments that overlap")
    yield from _zeros(data.through(gaps[0]))
    for size in gaps[1:]:
        yield from _rle_segment(data.through(size), pixels)
    yield from _rle_segment(data.rest(), pixels)


def _rle_segment(pieces: Iterator[memoryview], left: int) -> Iterator[Piece]:
    """One byte of each pixel in runs (PS3.5, annex G.3), and zeros for what stands behind them."""
    ahead = 0  # bytes of the present run that are still to come
    for piece in pieces:
        at, size, runs = ahead, len(piece), bytes(piece)
        while left > 0 and at < size:
            told = runs[at]
            if told < 128:  # noqa: PLR2004 - so many bytes follow, and one more
                at += told + 2 if told < left else left + 1
                left -= told + 1
            elif told > 128:  # noqa: PLR2004 - one byte follows, and stands for so many
                at += 2
                left -= 257 - told
            else:
                at += 1
        ahead = max(at - size, 0)
        yield piece[:at]
        yield bytes(size - min(at, size))


def _zeros(pieces: Iterator[memoryview]) -> Iterator[bytes]:
    for piece in pieces:
        yield bytes(len(piece))
