"""A JPEG as it comes in: judged by its header, and kept without comments, so that nobody's name stays in it."""

import re
import struct
from collections.abc import Iterator

from api import orientation
from api.pieces import Piece, Pieces
from worker.formats import check_pixels
from worker.frames import JPEG_MARKER
from worker.rejection import ImageRejected

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_ALONE = {0x01, _START, *range(0xD0, 0xD8)}  # markers that no length follows
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
_TABLES = {0xC4, 0xC8, 0xCC, *range(0xDB, 0xE0), 0xF8}  # ITU-T T.81, table B.1, and JPEG-LS, T.87
_APP0, _APP1, _APP2 = 0xE0, 0xE1, 0xE2
# What decoders read of the application segments: how many bytes, and no thumbnail behind them.
_APPLICATION = {_APP0: (b"JFIF\0", 12), 0xE8: (b"mrfx", 5), 0xEE: (b"Adobe", 12)}
_EXIF, _XMP, _SEVERAL = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"MPF\0"
_MOST_SEGMENTS, _MOST_JUNK = 100_000, 65_536
_PICTURES = 0xB001  # how many, in the multi-picture format, CIPA DC-007


def cleaned(data: Pieces, *, same_length: bool = False) -> Iterator[Piece]:
    """Yield the JPEG without what its pixels do not need. Raises ImageRejected.

    With `same_length` zeros take the place of what goes, for a JPEG whose length was already told.
    """
    file = _File(data, same_length=same_length)
    scanned = False
    for _ in range(_MOST_SEGMENTS):
        junk, marker = file.marker()
        yield junk
        if marker in _ALONE:
            yield bytes([0xFF, marker])
        elif marker == _END and scanned:
            yield b"\xff\xd9"
            yield from file.behind()
            return
        elif marker == _END:
            raise ImageRejected("truncated", "the file ends before its pixels")
        else:
            yield file.segment(marker)
        if marker == _SCAN:
            scanned = True
            yield from scan(data)
    raise ImageRejected("truncated", "more segments than any image needs")


class _File:
    """Reads markers and segments, and says what is kept of each."""

    def __init__(self, data: Pieces, *, same_length: bool) -> None:
        self._data = data
        self._same_length = same_length
        self._turned = False
        self._junk = 0

    def marker(self) -> tuple[bytes, int]:
        """The next marker, and zeros for what stands before it and belongs to no segment."""
        skipped, before, byte = -2, 0, 0
        while before != 0xFF or byte in {0, 0xFF}:  # noqa: PLR2004 - a marker is 0xFF and one more
            before, byte = byte, self._data.read(1)[0]
            skipped += 1
            if self._junk + skipped > _MOST_JUNK:
                raise ImageRejected("truncated", "no segment where one should begin")
        self._junk += skipped
        return bytes(skipped if self._same_length else 0), byte

    def behind(self) -> Iterator[bytes]:
        """Zeros for what stands behind the end."""
        for piece in self._data.rest():
            yield bytes(len(piece) if self._same_length else 0)

    def segment(self, marker: int) -> bytes:
        (length,) = struct.unpack(">H", self._data.read(2))
        if length < 2:  # noqa: PLR2004 - its own two bytes
            raise ImageRejected("truncated", "a segment shorter than its length")
        payload = self._data.read(length - 2)
        kept = self._kept(marker, payload)
        if self._same_length:
            kept = (kept or b"")[: len(payload)].ljust(len(payload), b"\0")
        return b"" if kept is None else struct.pack(">BBH", 0xFF, marker, len(kept) + 2) + kept

    def _kept(self, marker: int, payload: bytes) -> bytes | None:
        if marker in _FRAMES and len(payload) >= 5:  # noqa: PLR2004 - depth, rows, columns
            rows, columns = struct.unpack_from(">HH", payload, 1)
            check_pixels(columns, rows, most=self._data.max_pixels)
        if marker in _FRAMES or marker in _TABLES or marker == _SCAN:
            return payload
        if marker in _APPLICATION:
            begins, length = _APPLICATION[marker]
            thumbnail = b"\0\0" if marker == _APP0 else b""
            return payload[:length] + thumbnail if payload.startswith(begins) and len(payload) >= length else None
        if marker == _APP2 and payload.startswith(_SEVERAL) and (orientation.number(payload[4:], _PICTURES) or 1) > 1:
            raise ImageRejected("multi_frame", "more than one picture in one file")
        return self._upright(payload) if marker == _APP1 else None

    def _upright(self, payload: bytes) -> bytes | None:
        """Exif with the orientation alone, once, where this segment tells one."""
        if payload.startswith(_EXIF):
            found = orientation.of_exif(payload[len(_EXIF) :])
        else:
            found = orientation.of_xmp(payload) if payload.startswith(_XMP) else None
        if found is None or self._turned:
            return None
        self._turned = True
        return _EXIF + orientation.exif(found)


def scan(data: Pieces, *, until: re.Pattern[bytes] = JPEG_MARKER) -> Iterator[Piece]:
    """Yield compressed data up to a marker of two bytes, or to the end of the file."""
    held = b""
    for piece in data.rest():
        whole: Piece = held + bytes(piece) if held else piece
        found = until.search(whole)
        if found:
            yield whole[: found.start()]
            data.back(whole[found.start() :])
            return
        held = b"\xff" if whole[-1] == 0xFF else b""  # noqa: PLR2004 - perhaps the first half of a marker
        yield whole[: len(whole) - len(held)]
    yield held
