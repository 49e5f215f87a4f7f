"""A DICOM file as it comes in: judged by its tags, and written anew with those alone that are on the list."""

import struct
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

from api import codestreams, tags
from api.elements import ITEM, SEQUENCE_ENDS, UNDEFINED, Elements, Header
from api.pieces import Piece, Pieces
from worker.formats import DICOM_PREAMBLE, RADIOGRAPHS
from worker.frames import check_length, check_zeros
from worker.rejection import ImageRejected

_META = 0x0002
_SYNTAX, _SOP_CLASS, _SOP_INSTANCE = 0x00020010, 0x00020002, 0x00020003
_PIXEL_DATA = 0x7FE00010
_MODALITY, _SAMPLES, _FRAMES, _ROWS, _COLUMNS = 0x00080060, 0x00280002, 0x00280008, 0x00280010, 0x00280011
_BITS_ALLOCATED, _PHOTOMETRIC, _REPRESENTATION = 0x00280100, 0x00280004, 0x00280103
_IMPLICIT, _EXPLICIT, _BIG_ENDIAN = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2"
_JPEG = b"1.2.840.10008.1.2.4."
_LONGEST_UID = 64

SYNTAXES: Final = frozenset(
    {_IMPLICIT, _EXPLICIT, _BIG_ENDIAN, b"1.2.840.10008.1.2.5"}
    | {_JPEG + number for number in b"50 51 57 70 80 81 90 91 201 202 203".split()}
)
"""The transfer syntaxes that the worker decodes; a deflated one is not even read (522 kB became 1,094 MB)."""

_Values = dict[int, tuple[bytes, bytes]]  # (VR, value) by tag


def cleaned(data: Pieces) -> Iterator[Piece]:
    """Yield the file with a preamble of zeros and the tags that are kept. Raises ImageRejected."""
    data.skip(DICOM_PREAMBLE + 4)
    meta = _meta(data)
    syntax = meta.get(_SYNTAX, (b"UI", _IMPLICIT))[1]  # the standard's default
    if syntax not in SYNTAXES:
        raise ImageRejected("unsupported_transfer_syntax", "no decoder for this transfer syntax")
    elements = Elements(data, explicit=_is_explicit(data, syntax), order=">" if syntax == _BIG_ENDIAN else "<")
    values: _Values = {}
    pixels = _values(elements, values)
    _check(values, elements.order, data.max_pixels)
    meta[_SYNTAX] = b"UI", _EXPLICIT if syntax == _IMPLICIT else syntax
    yield bytes(DICOM_PREAMBLE) + b"DICM" + _written_meta(meta) + _written(values, elements.order)
    if pixels.length == UNDEFINED:
        yield from _encapsulated(data, elements, pixels, values, syntax)
    else:
        yield from _native(data, elements, pixels, values, syntax)
    data.skip_rest()


def _meta(data: Pieces) -> _Values:
    """The file's own tags, always in explicit little endian (PS3.10, section 7.1)."""
    elements = Elements(data, explicit=True, order="<")
    found: _Values = {}
    while (tag := elements.tag()) is not None and tag >> 16 == _META:
        header = elements.header()
        if tag in {_SYNTAX, _SOP_CLASS, _SOP_INSTANCE}:
            uid = elements.value(header, most=_LONGEST_UID).rstrip(b" \0")
            if all(byte in b"0123456789." for byte in uid):
                found[tag] = b"UI", uid
        else:
            elements.skip(header)
    return found


def _is_explicit(data: Pieces, syntax: bytes) -> bool:
    """By the syntax, unless the first element shows that the file is not what it says."""
    told = data.peek(6)[4:]
    return syntax != _IMPLICIT or (told.isalpha() and told.isupper())


def _values(elements: Elements, found: _Values) -> Header:
    """Collect what is kept, and return the header of the pixels."""
    known = False
    while (tag := elements.tag()) is not None:
        if tag > _MODALITY and not known:
            _check_modality(found)  # tags ascend, so nothing more is read of what is no radiograph
            known = True
        header = elements.header()
        if tag == _PIXEL_DATA:
            return header
        if wanted := tags.SEQUENCES.get(tag):
            if item := _kept_within(elements, header, wanted):
                found[tag] = b"SQ", _item(item, wanted, found, elements.order)
        elif kept := tags.PIXELS.get(tag) or tags.SAID.get(tag):
            _keep(found, elements, header, kept)
        else:
            elements.skip(header)
    _check_modality(found)
    raise ImageRejected("truncated", "the data set holds no pixels")


def _check_modality(values: _Values) -> None:
    if values.get(_MODALITY, (b"", b""))[1].decode() not in RADIOGRAPHS:
        raise ImageRejected("wrong_modality", "only CR, DX and RG are radiographs")


def _keep(found: _Values, elements: Elements, header: Header, kept: tags.Kept) -> None:
    if not kept.needed and header.length > kept.most:
        elements.skip(header)
        return
    value = kept.turn(elements.value(header, most=kept.most))
    if kept.pattern and not kept.pattern.fullmatch(value):
        if kept.needed:
            raise ImageRejected("truncated", "a tag that the pixels need is damaged")
    elif value or kept.needed:
        found[header.tag] = _vr(header.tag, header.vr, kept, found), value


def _kept_within(elements: Elements, sequence: Header, wanted: Mapping[int, tags.Kept]) -> _Values:
    """What is kept of a sequence's first item; nothing of a damaged one that the pixels do not need."""
    try:
        item = elements.nested(sequence, wanted=wanted, most=tags.TABLE)
    except ImageRejected:
        if sequence.length == UNDEFINED or any(kept.needed for kept in wanted.values()):
            raise
        return {}
    turned = {tag: (vr, wanted[tag].turn(value)) for tag, (vr, value) in item.items()}
    patterns = {tag: kept.pattern for tag, kept in wanted.items()}
    return {tag: found for tag, found in turned.items() if not (p := patterns[tag]) or p.fullmatch(found[1])}


def _vr(tag: int, told: bytes, kept: tags.Kept, found: _Values) -> bytes:
    """The VR as the file tells it; where it does not, descriptors are signed like the pixels."""
    if told in tags.BYTE_ORDERED:
        return told
    signed = any(found.get(_REPRESENTATION, (b"", b""))[1])
    return b"SS" if not told and signed and tag in tags.SIGNED else kept.vr


def _check(values: _Values, order: str, max_pixels: int) -> None:
    """The checks of `worker.dicom`, by the tags alone; in the same order, so that the codes are the same."""
    rows, columns = _number(values, _ROWS, order), _number(values, _COLUMNS, order)
    frames = _frames(values)
    if min(rows, columns, frames) < 1 or _number(values, _SAMPLES, order) not in {1, 3}:
        raise ImageRejected("truncated", "the data set holds no pixels")
    if rows * columns * frames > max_pixels:
        raise ImageRejected("too_large", f"{columns} x {rows} x {frames} pixels")
    if frames > 1:
        raise ImageRejected("multi_frame", "more than one frame")


def _number(values: _Values, tag: int, order: str) -> int:
    value = values.get(tag, (b"", b""))[1]
    return int(struct.unpack(f"{order}H", value)[0]) if len(value) == 2 else 0  # noqa: PLR2004


def _frames(values: _Values) -> int:
    try:
        return int(values.get(_FRAMES, (b"", b""))[1] or 1)
    except ValueError as error:
        raise ImageRejected("truncated", "the number of frames is no number") from error


def _native(data: Pieces, elements: Elements, pixels: Header, values: _Values, syntax: bytes) -> Iterator[Piece]:
    """As many pixels as the tags ask for; what stands behind them is not theirs."""
    samples = _number(values, _ROWS, elements.order) * _number(values, _COLUMNS, elements.order)
    # Two of three colours are shared by a pair of pixels.
    in_pairs = values.get(_PHOTOMETRIC, (b"", b""))[1] == b"YBR_FULL_422"
    samples *= 2 if in_pairs else _number(values, _SAMPLES, elements.order)
    length = -(-samples * _number(values, _BITS_ALLOCATED, elements.order) // 8)
    if syntax not in {_IMPLICIT, _EXPLICIT, _BIG_ENDIAN}:
        raise ImageRejected("truncated", "a compressed frame that is not wrapped like one")
    in_rows = check_length(pixels.length, length, rows=_number(values, _ROWS, elements.order))
    vr = pixels.vr if pixels.vr in {b"OB", b"OW"} else b"OW"
    even = length + length % 2  # words of two bytes in big endian: the last pixel stands behind the one that pads
    yield _header(elements.order, _PIXEL_DATA, vr, even)
    yield from data.through(min(even, pixels.length))
    yield bytes(max(even - pixels.length, 0))
    if in_rows:
        for piece in data.through(pixels.length - even):
            check_zeros(bytes(piece))


def _encapsulated(data: Pieces, elements: Elements, pixels: Header, values: _Values, syntax: bytes) -> Iterator[Piece]:
    """The compressed frame, without the offsets before it and with nothing in its codestream but pixels."""
    many = _number(values, _ROWS, elements.order) * _number(values, _COLUMNS, elements.order)
    yield _header("<", _PIXEL_DATA, b"OB", pixels.length) + _item_header(0)
    cuts: deque[tuple[int, bytes]] = deque()
    at = 0
    payload = Pieces(_payload(elements, cuts), max_pixels=data.max_pixels)
    for piece in codestreams.cleaned(payload, syntax, pixels=many):
        left = memoryview(piece)
        while left:
            while cuts and cuts[0][0] == at:
                yield cuts.popleft()[1]
            part = left[: cuts[0][0] - at] if cuts else left
            yield part
            at, left = at + len(part), left[len(part) :]
    yield struct.pack("<HHI", SEQUENCE_ENDS >> 16, SEQUENCE_ENDS & 0xFFFF, 0)


def _payload(elements: Elements, cuts: deque[tuple[int, bytes]]) -> Iterator[bytes]:
    """The fragments behind the table of offsets; `cuts` says where each begins, and its header."""
    at = 0
    for number, (header, data) in enumerate(elements.fragments()):
        if number:
            cuts.append((at, _item_header(header.length)))
        for piece in data:
            if number:
                at += len(piece)
                yield bytes(piece)


def _item(values: _Values, wanted: Mapping[int, tags.Kept], found: _Values, order: str) -> bytes:
    """The value of a sequence of one item."""
    inside = _written({tag: (_vr(tag, vr, wanted[tag], found), value) for tag, (vr, value) in values.items()}, order)
    return struct.pack(f"{order}HHI", ITEM >> 16, ITEM & 0xFFFF, len(inside)) + inside


def _item_header(length: int) -> bytes:
    return struct.pack("<HHI", ITEM >> 16, ITEM & 0xFFFF, length)


def _written_meta(meta: _Values) -> bytes:
    rest = _element("<", 0x00020001, b"OB", b"\0\1") + _written(meta, "<")
    return _element("<", 0x00020000, b"UL", struct.pack("<I", len(rest))) + rest


def _written(values: _Values, order: str) -> bytes:
    return b"".join(_element(order, tag, vr, value) for tag, (vr, value) in sorted(values.items()))


def _element(order: str, tag: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr in {b"UI", b"OB", b"OW"} else b" "
    return _header(order, tag, vr, len(value)) + value


def _header(order: str, tag: int, vr: bytes, length: int) -> bytes:
    head = struct.pack(f"{order}HH2s", tag >> 16, tag & 0xFFFF, vr)
    if vr in {b"OB", b"OW", b"SQ", b"UN"}:
        return head + struct.pack(f"{order}2xI", length)
    return head + struct.pack(f"{order}H", length)
