"""The compressed pixels of a PNG: as many as the header asks for, and zeros for what stands behind them."""

import zlib
from collections.abc import Iterator
from typing import Final

from api.pieces import Piece
from worker.rejection import ImageRejected

_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by colour type
_WHOLE: Final = ((0, 0, 1, 1),)
# The first row and column of each pass of an interlaced PNG, and the steps from there (W3C PNG, table 8.1).
_ADAM7: Final = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_ZLIB_HEADER, _ZLIB_SUM = 2, 4
_AT_ONCE: Final = 1 << 16
_MOST: Final = 64_000_000  # bytes of pixels, a third of a second's work; larger pictures are let through as they are


def size(width: int, height: int, *, depth: int, colour: int, interlaced: int) -> int:
    """Return how many bytes the pixels are before they are compressed, with the filter of each row."""
    bits = depth * _SAMPLES[colour]
    return sum(
        len(range(row, height, down)) * (1 + (len(range(column, width, right)) * bits + 7) // 8)
        for row, column, down, right in (_ADAM7 if interlaced else _WHOLE)
        if column < width
    )


class Deflated:
    """Follows the stream through its chunks, in bounded memory; what stands behind the pixels may be a name."""

    def __init__(self, size: int) -> None:
        self._left = size if size <= _MOST else 0
        self._followed = size <= _MOST
        self._before, self._behind = _ZLIB_HEADER, _ZLIB_SUM  # bytes of each that are still to come
        # Without the sum of zlib: a pixel that damage took from it is the decoders' to find.
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._ended = False

    @property
    def ended(self) -> bool:
        return self._ended and not self._behind

    def kept(self, pieces: Iterator[memoryview]) -> Iterator[Piece]:
        """Yield as many bytes as come in."""
        for piece in pieces:
            needed = self._needed(piece) if self._followed else len(piece)
            yield piece[:needed]
            yield bytes(len(piece) - needed)

    def check(self) -> None:
        """Raise ImageRejected where the stream ended before its pixels."""
        if self._left > 0:
            raise ImageRejected("truncated", "fewer pixels than the header asks for")

    def _needed(self, piece: memoryview) -> int:
        """How many bytes of the piece the pixels need, and what zlib puts around them."""
        at = min(self._before, len(piece))
        self._before -= at
        if not self._ended:
            at += self._inflated(piece[at:])
        if self._ended:
            behind = min(self._behind, len(piece) - at)
            self._behind -= behind
            at += behind
        return at

    def _inflated(self, piece: memoryview) -> int:
        """How many bytes of the piece were inflated until the stream, or its pixels, came to an end."""
        fed: Piece = piece
        asked = inflated = 0
        try:
            while fed or inflated == asked:
                asked = min(self._left, _AT_ONCE) + 1  # one more than there should be
                inflated = len(self._stream.decompress(fed, asked))
                self._left -= inflated
                self._ended = self._stream.eof or self._left < 0
                fed = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
                if self._ended:
                    return len(piece) - len(fed)
        except zlib.error:  # the decoders will see the same, and know whether they have all pixels
            self._ended, self._left, self._behind = True, 0, 0
        return len(piece)
