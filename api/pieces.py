"""A file that arrives in pieces, read by length: never whole in memory, counted and limited."""

import hashlib
import sys
from collections.abc import Iterator
from typing import TypeAlias

from worker.formats import MAX_PIXELS
from worker.rejection import ImageRejected

Piece: TypeAlias = bytes | memoryview

_REMEMBERED = 2 << 20  # most files are shorter, and then what was sent is hashed only where it is refused


class Pieces:
    """Reads what is asked for, or raises ImageRejected: `truncated` at the end, `too_large` past `most` bytes.

    `max_pixels` is for who reads the header.
    """

    def __init__(self, pieces: Iterator[bytes], *, most: int | None = None, max_pixels: int = MAX_PIXELS) -> None:
        self.max_pixels = max_pixels
        self._pieces = pieces
        self._left = sys.maxsize if most is None else most
        self._piece = memoryview(b"")
        self._sent: list[bytes] = []
        self._hash = hashlib.sha256()
        self._arrived = 0

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, a number that the caller has bounded."""
        return bytes(self._take(size)) if size <= len(self._piece) else b"".join(self.through(size))

    def peek(self, size: int) -> bytes:
        """Return the next bytes without moving on; fewer at the end."""
        while len(self._piece) < size and (more := self._next()):
            self._piece = memoryview(bytes(self._piece) + more)
        return bytes(self._piece[:size])

    def through(self, size: int) -> Iterator[memoryview]:
        """Yield the next `size` bytes as they come."""
        while size:
            if not self._more():
                raise ImageRejected("truncated", "the file ends too early")
            found = self._take(size)
            size -= len(found)
            yield found

    def rest(self) -> Iterator[memoryview]:
        """Yield everything that is left, as it comes."""
        while self._more():
            yield self._take(len(self._piece))

    def back(self, piece: Piece) -> None:
        """Give back what `rest` yielded last, or its end."""
        self._piece = memoryview(piece)
        self._left += len(piece)

    def skip(self, size: int) -> None:
        for _ in self.through(size):
            pass

    def skip_rest(self) -> None:
        for _ in self.rest():
            pass

    def refuse(self) -> tuple[str, int]:
        """Read to the end, keeping nothing, and return the SHA-256 and the size of all that was sent."""
        while self._next():
            pass
        self._hash_sent()
        return self._hash.hexdigest(), self._arrived

    def _take(self, size: int) -> memoryview:
        found, self._piece = self._piece[:size], self._piece[size:]
        self._left -= len(found)
        if self._left < 0:
            raise ImageRejected("too_large", "more bytes than one image may have")
        return found

    def _more(self) -> bool:
        if not self._piece:
            self._piece = memoryview(self._next())
        return bool(self._piece)

    def _next(self) -> bytes:
        piece = next((piece for piece in self._pieces if piece), b"")
        self._arrived += len(piece)
        self._sent.append(piece)
        if self._arrived > _REMEMBERED:
            self._hash_sent()
        return piece

    def _hash_sent(self) -> None:
        for piece in self._sent:
            self._hash.update(piece)
        self._sent.clear()


def joined(pieces: Iterator[Piece], size: int) -> Iterator[Piece]:
    """The same bytes in pieces of at least `size`, but for the last: each write costs a call to the system."""
    small = bytearray()
    for piece in pieces:
        if len(small) + len(piece) < size:
            small += piece
            continue
        if small:
            yield bytes(small)
            small.clear()
        yield piece
    if small:
        yield bytes(small)
