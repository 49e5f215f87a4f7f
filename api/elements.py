"""DICOM data elements as they arrive: one header after the other, in every encoding, in bounded memory."""

import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass

from api.pieces import Piece, Pieces
from worker.rejection import ImageRejected

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_ENDS, SEQUENCE_ENDS = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_SHORT = {
    b"AE",
    b"AS",
    b"AT",
    b"CS",
    b"DA",
    b"DS",
    b"DT",
    b"FD",
    b"FL",
    b"IS",
    b"LO",
    b"LT",
    b"PN",
    b"SH",
    b"SL",
    b"SS",
}
_SHORT |= {b"ST", b"TM", b"UI", b"UL", b"US"}
_DEEPEST = 50
_MOST_ELEMENTS = 20_000
_HEADER = 8


@dataclass(frozen=True)
class Header:
    """What stands before a value; `vr` is empty where it is not told (PS3.5, section 7.1)."""

    tag: int
    vr: bytes
    length: int


class Elements:
    """Reads the elements of one data set in its encoding."""

    def __init__(self, data: Pieces, *, explicit: bool, order: str) -> None:
        self._data = data
        self.order = order
        self.explicit = explicit
        self._left = _MOST_ELEMENTS

    def tag(self) -> int | None:
        """The tag that comes next; None at the end."""
        head = self._data.peek(4)
        return None if len(head) < 4 else self._tag(head)  # noqa: PLR2004

    def header(self, *, explicit: bool | None = None) -> Header:
        self._left -= 1
        if not self._left:
            raise ImageRejected("truncated", "more elements than any radiograph has")
        head = self._data.read(_HEADER)
        tag, vr = self._tag(head), head[4:6]
        if tag in {ITEM, ITEM_ENDS, SEQUENCE_ENDS} or not (self.explicit if explicit is None else explicit):
            return Header(tag, b"", self._length(head[4:]))
        if vr in _LONG:
            return Header(tag, vr, self._length(self._data.read(4)))
        if vr in _SHORT:
            return Header(tag, vr, struct.unpack(f"{self.order}H", head[6:])[0])
        return Header(tag, b"", self._length(head[4:]))  # without its VR after all, as some old writers left it

    def value(self, header: Header, *, most: int) -> bytes:
        if header.length > most:
            raise ImageRejected("truncated", "a tag longer than it can be")
        return self._data.read(header.length)

    def skip(self, header: Header) -> None:
        if header.length == UNDEFINED:
            self.nested(header, wanted=(), most=0)
        else:
            self._data.skip(header.length)

    def nested(self, sequence: Header, *, wanted: Container[int], most: int) -> dict[int, tuple[bytes, bytes]]:
        """Read a sequence to its end and return the first (VR, value) of each wanted tag in its items."""
        found: dict[int, tuple[bytes, bytes]] = {}
        if sequence.length != UNDEFINED:
            inner = Pieces(iter([self.value(sequence, most=4 * most)]))
            within = Elements(inner, explicit=self.explicit, order=self.order)
            while within.tag() is not None:
                within._one(found, [], wanted, most)
            return found
        # Open sequences and items, and whether the values within have their VR: in one of VR UN, none has.
        open_ = [self.explicit and sequence.vr != b"UN"]
        while open_:
            self._one(found, open_, wanted, most)
        return found

    def _one(self, found: dict[int, tuple[bytes, bytes]], open_: list[bool], wanted: Container[int], most: int) -> None:
        explicit = open_[-1] if open_ else self.explicit
        header = self.header(explicit=explicit)
        if header.tag in {ITEM_ENDS, SEQUENCE_ENDS}:
            if open_:
                open_.pop()
        elif header.length == UNDEFINED:
            open_.append(explicit and header.vr != b"UN")
            if len(open_) > _DEEPEST:
                raise ImageRejected("truncated", "sequences deeper than any radiograph has")
        elif header.tag in wanted and header.tag not in found:
            found[header.tag] = header.vr, self.value(header, most=most)
        elif header.tag != ITEM:  # what stands in an item of known length follows as it is
            self._data.skip(header.length)

    def fragments(self) -> Iterator[tuple[Header, Iterator[Piece]]]:
        """Yield (header, data) of each item of encapsulated pixels, each to be read before the next."""
        while (header := self.header()).tag == ITEM and header.length != UNDEFINED:
            yield header, self._data.through(header.length)
        if header.tag != SEQUENCE_ENDS:
            raise ImageRejected("truncated", "the compressed pixels do not end")

    def _tag(self, head: bytes) -> int:
        group, element = struct.unpack_from(f"{self.order}HH", head)
        return int(group) << 16 | int(element)

    def _length(self, four: bytes) -> int:
        return int(struct.unpack(f"{self.order}I", four)[0])
