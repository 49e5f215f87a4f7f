"""A PNG as it comes in: judged by its header, and kept without texts, so that nobody's name stays in it."""

import struct
import zlib
from collections.abc import Iterator

from api import orientation
from api.pieces import Piece, Pieces
from worker.formats import check_pixels
from worker.rejection import ImageRejected

_SIGNATURE = 8
_HEADER = struct.Struct(">IIBBBBB")  # width, height, bit depth, colour type, compression, filter, interlacing
_CHUNK = struct.Struct(">I4s")
_CRC = 4
# What the pixels need; see W3C PNG, table 7. All else is text, time, or said of a screen.
_KEPT = {b"PLTE", b"tRNS", b"IDAT"}
_TEXTS = {b"eXIf", b"iTXt", b"tEXt", b"zTXt"}
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
_MOST_CHUNKS = 100_000
_LONGEST = (1 << 31) - 1


def cleaned(data: Pieces) -> Iterator[Piece]:
    """Yield the PNG with the chunks that make its pixels, and its orientation. Raises ImageRejected."""
    yield data.read(_SIGNATURE)
    yield _header(data)
    turned = _Turned()
    for _ in range(_MOST_CHUNKS):
        length, name = _CHUNK.unpack(head := data.read(_CHUNK.size))
        if name == b"IEND":
            if turned.found:
                yield _chunk(b"eXIf", orientation.exif(turned.found))
            yield _chunk(b"IEND", b"")
            data.skip_rest()
            return
        if length > _LONGEST:
            raise ImageRejected("truncated", "a chunk longer than the format allows")
        if name in _KEPT:
            yield head
            yield from _checked(data, name, length)
        elif not name[:1].islower():
            raise ImageRejected("truncated", "a chunk that pixels need and no reader knows")
        else:
            looked_at = min(length, orientation.LONGEST if name in _TEXTS | {b"acTL"} else 0)
            turned.look(name, data.read(looked_at))
            data.skip(length - looked_at + _CRC)
    raise ImageRejected("truncated", "more chunks than any image needs")


def _header(data: Pieces) -> bytes:
    whole = data.read(_CHUNK.size + _HEADER.size + _CRC)
    length, name = _CHUNK.unpack_from(whole)
    width, height, depth, colour, *_ = _HEADER.unpack_from(whole, _CHUNK.size)
    damaged = zlib.crc32(whole[4:-_CRC]).to_bytes(_CRC) != whole[-_CRC:]
    if damaged or (length, name) != (_HEADER.size, b"IHDR") or depth not in _DEPTHS.get(colour, ()):
        raise ImageRejected("truncated", "the header is damaged")
    check_pixels(width, height, most=data.max_pixels)
    return whole


def _checked(data: Pieces, name: bytes, length: int) -> Iterator[Piece]:
    """Yield a chunk's data and its checksum; raise ImageRejected where they disagree."""
    found = zlib.crc32(name)
    for piece in data.through(length):
        found = zlib.crc32(piece, found)
        yield piece
    told = data.read(_CRC)
    if told != found.to_bytes(_CRC):
        raise ImageRejected("truncated", "a chunk that is not what its checksum says")
    yield told


class _Turned:
    """Finds the orientation among the chunks that are dropped: Exif counts before texts."""

    def __init__(self) -> None:
        self._exif: int | None = None
        self._text: int | None = None

    @property
    def found(self) -> int | None:
        return self._exif or self._text

    def look(self, name: bytes, chunk: bytes) -> None:
        if name == b"acTL" and int.from_bytes(chunk[:4]) > 1:
            raise ImageRejected("multi_frame", "more than one frame in one file")
        if name == b"eXIf":
            self._exif = self._exif or orientation.of_exif(chunk)
        elif name in _TEXTS:
            self._text = self._text or _of_text(name, chunk)


def _of_text(name: bytes, chunk: bytes) -> int | None:
    keyword, _, text = chunk.partition(b"\0")
    if keyword == b"XML:com.adobe.xmp" and name == b"iTXt":
        # Two flags, a language, the keyword's translation; then the packet, which may be compressed.
        *_, packet = text[2:].split(b"\0", 2)
        return orientation.of_xmp(orientation.inflated(packet) if text[:1] == b"\1" else packet)
    if keyword == b"Raw profile type exif" and name in {b"tEXt", b"zTXt"}:
        return orientation.of_raw_profile(orientation.inflated(text[1:]) if name == b"zTXt" else text)
    return None


def _chunk(name: bytes, data: bytes) -> bytes:
    return _CHUNK.pack(len(data), name) + data + zlib.crc32(name + data).to_bytes(4)
