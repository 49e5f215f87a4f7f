"""The header and the chunks of a PNG, and whether they are whole: by their checksums, and by how many pixels stand in them."""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from worker.rejection import ImageRejected

HEADER: Final = struct.Struct(">16xIIBBxxB")
"""Width, height, bit depth, colour type and interlacing, from the first byte of the file."""

_BEGINS: Final = 8
_CHUNK = struct.Struct(">I4s")  # length, name; the data and four bytes of CRC follow
_CRC: Final = 4
_PIXELS: Final = {b"IHDR", b"PLTE", b"tRNS", b"IDAT"}
_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by colour type
_WHOLE: Final = ((0, 0, 1, 1),)
# The first row and column of each pass of an interlaced PNG, and the steps from there (W3C PNG, table 8.1).
_ADAM7: Final = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_READ_AT_ONCE, _INFLATED_AT_ONCE = 1 << 14, 1 << 16


def names(data: bytes) -> set[bytes]:
    """Return the names of all chunks, or raise ImageRejected where the file ends before its last one does."""
    ends = {name: end + _CRC for name, _, end in _chunks(data)}
    if ends.get(b"IEND", len(data) + 1) > len(data):
        raise ImageRejected("truncated", "the file ends before its last chunk")
    return set(ends)


def check_pixels(data: bytes) -> None:
    """Raise ImageRejected, or zlib.error, where a checksum is wrong or fewer pixels are compressed than the header asks for."""
    view = memoryview(data)
    for name, begin, end in _chunks(data):
        if name in _PIXELS and zlib.crc32(view[begin - len(name) : end]).to_bytes(_CRC) != data[end : end + _CRC]:
            raise ImageRejected("truncated", "a chunk that is not what its checksum says")
    left = _size(*HEADER.unpack_from(data))
    stream = zlib.decompressobj()
    for piece in _compressed(data):
        fed: bytes | memoryview = piece
        while left and (inflated := len(stream.decompress(fed, min(left, _INFLATED_AT_ONCE)))):
            left -= inflated
            fed = stream.unconsumed_tail
        if not left:
            return
        if stream.eof:
            break
    raise ImageRejected("truncated", "fewer pixels than the header asks for")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield each name, and where the data begin and should end."""
    name, at = b"", _BEGINS
    while at + _CHUNK.size <= len(data) and name != b"IEND":
        length, name = _CHUNK.unpack_from(data, at)
        begin, end = at + _CHUNK.size, at + _CHUNK.size + length
        yield name, begin, end
        at = end + _CRC


def _compressed(data: bytes) -> Iterator[memoryview]:
    """In small pieces: zlib copies what it is fed and does not need yet."""
    view = memoryview(data)
    for name, begin, end in _chunks(data):
        if name == b"IDAT":
            for at in range(begin, end, _READ_AT_ONCE):
                yield view[at : min(at + _READ_AT_ONCE, end)]


def _size(width: int, height: int, depth: int, colour: int, interlaced: int) -> int:
    """How many bytes the pixels are before they are compressed, with the filter of each row."""
    bits = depth * _SAMPLES[colour]
    return sum(
        len(range(row, height, down)) * (1 + (len(range(column, width, right)) * bits + 7) // 8)
        for row, column, down, right in (_ADAM7 if interlaced else _WHOLE)
        if column < width
    )
