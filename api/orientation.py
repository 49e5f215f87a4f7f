"""Which way up a radiograph is, out of its metadata: the one thing in there that the pixels need."""

import re
import struct
import zlib
from typing import Final

LONGEST: Final = 256 * 1024
"""How much of one metadata block is looked at; the orientation stands near its beginning."""

_TAG, _SHORT, _LONG = 0x0112, 3, 4
_NUMBERS = {_SHORT: "H", _LONG: "I"}
_TURNED = range(2, 9)
_XMP = re.compile(rb"tiff:Orientation(?:=\"|>)([0-9])")
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_MOST_ENTRIES = 1000


def number(tiff: bytes, tag: int) -> int | None:
    """The one whole number that a TIFF's first directory gives for `tag`, else None (TIFF 6.0, section 2)."""
    order = _ORDERS.get(tiff[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for place in range(min(count, _MOST_ENTRIES)):
            found, kind, values = struct.unpack_from(f"{order}HHI", tiff, start + 2 + 12 * place)
            if found == tag and values == 1 and kind in _NUMBERS:
                value: int = struct.unpack_from(order + _NUMBERS[kind], tiff, start + 10 + 12 * place)[0]
                return value
    except struct.error:
        pass
    return None


def of_exif(tiff: bytes) -> int | None:
    """The orientation 2 to 8 that Exif data give, else None (Exif 2.32, 4.6.5)."""
    value = number(tiff, _TAG)
    return value if value in _TURNED else None


def of_xmp(packet: bytes) -> int | None:
    """The orientation 2 to 8 in an XMP packet, else None."""
    found = _XMP.search(packet)
    return int(found[1]) if found and int(found[1]) in _TURNED else None


def of_raw_profile(text: bytes) -> int | None:
    """The orientation in ImageMagick's hexadecimal copy of Exif, behind two lines, else None."""
    try:
        raw = bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
    except ValueError:
        return None
    return of_exif(raw.removeprefix(b"Exif\0\0"))


def inflated(data: bytes) -> bytes:
    """As much of a compressed text as is looked at; nothing where it is damaged."""
    try:
        return zlib.decompressobj().decompress(data, LONGEST)
    except zlib.error:
        return b""


def exif(orientation: int) -> bytes:
    """Exif data that hold the orientation and nothing else."""
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, _TAG, _SHORT, 1, orientation, 0, 0)
