"""Compressed frames of DICOM, put together at random: as long as they came, or refused, and nothing else."""

import struct
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import RLELossless

from api import codestreams, dicoms
from tests.dicoms import encapsulated, written
from tests.examples import fuzzed
from tests.test_fuzz import LENGTH, SHORT, STEP, judged, pieces
from worker.radiograph import decode
from worker.rejection import ImageRejected

JPEG_LS, JPEG_2000 = b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.4.90"
EDGE = 8  # pixels


def kept(frame: bytes, syntax: bytes, step: int) -> None:
    """The door keeps the length that the tags around the frame have told, or refuses it."""
    with suppress(ImageRejected):
        assert sum(map(len, codestreams.cleaned(pieces(frame, step), syntax, pixels=EDGE * EDGE))) == len(frame)


def segment(marker: int, length: int | None, data: bytes) -> bytes:
    return struct.pack(">HH", marker, (len(data) + 2 if length is None else length) & 0xFFFF) + data


def segments(*markers: int) -> st.SearchStrategy[list[bytes]]:
    told = st.one_of(st.none(), st.none(), LENGTH)
    marker = st.one_of(st.sampled_from(markers), st.integers(0xFF00, 0xFFFF))
    return st.lists(st.builds(segment, marker, told, SHORT), max_size=5)


# JPEG 2000: a main header, then tile-parts that tell their length, or 0 for all that is left


def tile_part(length: int | None, header: list[bytes], data: bytes) -> bytes:
    inside = b"".join(header) + b"\xff\x93" + data
    told = 12 + len(inside) if length is None else length
    return struct.pack(">HHHIBB", 0xFF90, 10, 0, told, 0, 1) + inside


TILE_PART = st.builds(
    tile_part, st.one_of(st.none(), st.just(0), LENGTH), segments(0xFF52, 0xFF5C, 0xFF58, 0xFF64, 0xFF93), SHORT
)


@fuzzed(100)
@given(
    header=segments(0xFF51, 0xFF52, 0xFF5C, 0xFF64, 0xFF90),
    tiles=st.lists(TILE_PART, max_size=4),
    end=st.sampled_from([b"\xff\xd9", b"\xff\xd9Erika", b"\0", b"", b"\xff"]),
    step=STEP,
)
def test_a_jpeg_2000_of_any_tile_parts(header: list[bytes], tiles: list[bytes], end: bytes, step: int) -> None:
    kept(b"\xff\x4f" + b"".join(header) + b"".join(tiles) + end, JPEG_2000, step)


# JPEG-LS: a frame header and tables of its own, and scans in which a byte of 0xFF is followed by a stuffed bit


@fuzzed(100)
@given(
    before=segments(0xFFF7, 0xFFF8, 0xFFE8, 0xFFFE, 0xFFD9),
    scans=st.lists(st.tuples(segments(0xFFDA, 0xFFF8, 0xFFFE), SHORT), max_size=3),
    end=st.sampled_from([b"\xff\xd9", b"\xff\xd9Erika", b"", b"\xff"]),
    step=STEP,
)
def test_a_jpeg_ls_of_any_scans(
    before: list[bytes], scans: list[tuple[list[bytes], bytes]], end: bytes, step: int
) -> None:
    data = b"".join(
        b"".join(header) + segment(0xFFDA, None, b"\1\1\0\0\0\0") + bits.replace(b"\xff", b"\xff\x7f")
        for header, bits in scans
    )
    kept(b"\xff\xd8" + b"".join(before) + data + end, JPEG_LS, step)


# RLE: a header of offsets, and runs: a byte says how many follow, or how often the next one counts

RUN = st.one_of(
    st.builds(lambda data: bytes([len(data) - 1]) + data, st.binary(min_size=1, max_size=80)),
    st.builds(lambda times, byte: bytes([257 - times, byte]), st.integers(2, 128), st.integers(0, 255)),
    SHORT,
)
SEGMENT = st.one_of(st.just(bytes([0xC1, 7])), st.lists(RUN, max_size=4).map(b"".join))  # 64 times the 7: whole


def rle(found: list[bytes], count: int | None, moved: dict[int, int]) -> bytes:
    begins = [64 + sum(map(len, found[:number])) for number in range(len(found))]
    offsets = [moved.get(number, begin) for number, begin in enumerate(begins)]
    header = struct.pack("<16I", len(found) if count is None else count, *offsets, *[0] * (15 - len(offsets)))
    return header + b"".join(found)


WHOLE = written(encapsulated(RLELossless, b"frame", Rows=EDGE, Columns=EDGE))
BEFORE = WHOLE[: WHOLE.index(struct.pack("<HH", 0x7FE0, 0x10)) + 12]


def fragments(frame: bytes, size: int) -> bytes:
    """The file with its frame in items of this size, behind a table of offsets that is empty."""
    parts = [b"", *(frame[at : at + size] for at in range(0, len(frame), size))]
    items = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(part)) + part for part in parts)
    return BEFORE + items + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


@fuzzed(100)
@given(
    frame=st.builds(
        rle,
        st.lists(SEGMENT, max_size=4),
        st.one_of(st.none(), st.none(), LENGTH),
        st.one_of(st.just({}), st.dictionaries(st.integers(0, 3), LENGTH, max_size=2)),
    ),
    cut=st.one_of(st.none(), st.integers(0, 90)),
    size=st.integers(1, 99),
    step=STEP,
)
def test_an_rle_frame_of_any_segments(frame: bytes, cut: int | None, size: int, step: int) -> None:
    frame = frame[: len(frame) if cut is None else cut]
    kept(frame, RLELossless.encode(), step)
    judged(dicoms.cleaned, fragments(frame, size), step)


def test_a_sound_rle_frame_is_read_in_any_fragments() -> None:
    for size in (1, 7, 99):
        whole = fragments(rle([bytes([0xC1, 7])], None, {}), size)
        assert decode(b"".join(dicoms.cleaned(pieces(whole, 5)))).std() == 0
