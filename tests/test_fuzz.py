"""Every structure that comes in from outside, put together at random: read or refused, and nothing else."""

import struct
import zlib
from collections import Counter
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import dicoms, jpegs, orientation, pngs
from api.elements import Elements
from api.pieces import Pieces, joined
from fuzzing.tally import Tally
from tests.dicoms import radiograph as dicom_radiograph
from tests.dicoms import written
from tests.examples import fuzzed
from tests.pictures import chunk
from tests.uploading import BOUNDARY, Api, Radiograph, multipart
from worker.radiograph import SIZE, decode
from worker.rejection import ImageRejected

SHORT = st.binary(max_size=80)
LENGTH = st.one_of(st.integers(0, 90), st.sampled_from([0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]))
STEP = st.integers(1, 300)


def pieces(data: bytes, step: int) -> Pieces:
    return Pieces((data[at : at + step] for at in range(0, len(data), step)), most=1 << 20)


def judged(clean: Any, data: bytes, step: int) -> None:
    """The door lets it in or not; what it lets in, the decoder reads or not; more is not said, and little is written."""
    with suppress(ImageRejected):
        kept = b"".join(joined(clean(pieces(data, step)), 512))
        assert len(kept) <= 2 * len(data) + 1000
        assert decode(kept).shape == (SIZE, SIZE)


# PNG, its header and chunks

HEADER = st.builds(
    lambda width, height, rest: struct.pack(">II", width, height) + rest,
    st.one_of(st.integers(0, 20), LENGTH),
    st.one_of(st.integers(0, 20), LENGTH),
    st.one_of(
        st.builds(
            lambda depth, colour, lace: bytes([depth, colour, 0, 0, lace]),
            st.sampled_from([1, 2, 4, 8, 16]),
            st.sampled_from([0, 2, 3, 4, 6]),
            st.integers(0, 1),
        ),
        st.binary(min_size=5, max_size=5),
    ),
)
NAMES = [b"IDAT", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"iTXt", b"tEXt", b"zTXt", b"iCCP", b"naMe"]
CHUNK = st.one_of(
    st.builds(chunk, st.sampled_from(NAMES), SHORT),
    st.builds(lambda pixels: chunk(b"IDAT", zlib.compress(pixels)), st.binary(max_size=900)),
    st.builds(lambda text: chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(text)), SHORT),
    st.builds(
        lambda length, name, data: struct.pack(">I", length) + name + data, LENGTH, st.sampled_from(NAMES), SHORT
    ),
)


@fuzzed(250)
@given(header=HEADER, chunks=st.lists(CHUNK, max_size=8), end=st.booleans(), step=STEP)
def test_a_png_of_any_chunks(header: bytes, chunks: list[bytes], end: bool, step: int) -> None:
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + (chunk(b"IEND", b"") if end else b"")
    judged(pngs.cleaned, data, step)


# JPEG, its markers and segments

MARKER = st.one_of(
    st.sampled_from(
        [0xC0, 0xC2, 0xC4, 0xDB, 0xDA, 0xDD, 0xE0, 0xE1, 0xE2, 0xEE, 0xF7, 0xFE, 0xD8, 0xD9, 0xD0, 0, 0xFF]
    ),
    st.integers(0, 255),
)
SEGMENT = st.one_of(
    st.builds(lambda m, data: bytes([0xFF, m]) + struct.pack(">H", len(data) + 2) + data, MARKER, SHORT),
    st.builds(
        lambda m, length, data: bytes([0xFF, m]) + struct.pack(">H", length & 0xFFFF) + data, MARKER, LENGTH, SHORT
    ),
    st.builds(
        lambda rows, columns, parts: b"\xff\xc0\0\x0b\x08" + struct.pack(">HHB", rows, columns, parts) + b"\1\x11\0",
        st.integers(0, 0xFFFF),
        st.integers(0, 0xFFFF),
        st.integers(0, 4),
    ),
    SHORT,
)


@fuzzed(250)
@given(segments=st.lists(SEGMENT, max_size=10), step=STEP)
def test_a_jpeg_of_any_segments(segments: list[bytes], step: int) -> None:
    judged(jpegs.cleaned, b"\xff\xd8" + b"".join(segments), step)


@fuzzed(150)
@given(segments=st.lists(SEGMENT, max_size=10), step=STEP)
def test_a_jpeg_inside_dicom_keeps_its_length(segments: list[bytes], step: int) -> None:
    data = b"\xff\xd8" + b"".join(segments)
    with suppress(ImageRejected):
        assert len(b"".join(jpegs.cleaned(pieces(data, step), same_length=True))) == len(data)


# The orientation, in TIFF directories and texts


@fuzzed(300)
@given(
    order=st.sampled_from([b"II*\0", b"MM\0*", b"II", b""]),
    start=st.one_of(st.just(8), LENGTH),
    entries=st.lists(st.tuples(st.sampled_from([0x0112, 0xB001, 0]), st.integers(0, 13), LENGTH, LENGTH), max_size=5),
    text=SHORT,
)
def test_metadata_of_any_kind(order: bytes, start: int, entries: list[tuple[int, ...]], text: bytes) -> None:
    way = "<" if order.startswith(b"I") else ">"
    listed = b"".join(struct.pack(f"{way}HHII", *entry) for entry in entries)
    tiff = order + struct.pack(f"{way}IH", start, len(entries)) + listed
    for found in (orientation.of_exif(tiff), orientation.of_xmp(text), orientation.of_raw_profile(text)):
        assert found is None or 2 <= found <= 8
    assert len(orientation.inflated(text)) <= orientation.LONGEST


# DICOM, its elements in every encoding, nested

TAG = st.one_of(
    st.sampled_from(
        [
            *(0x00080005, 0x00080060, 0x00100010, 0x00101010, 0x00280002, 0x00280008, 0x00280010, 0x00280011),
            *(0x00280100, 0x00283000, 0x00283002, 0x00283006, 0x00283010, 0x60003000, 0x7FE00010, 0xFFFEE000),
            *(0xFFFEE00D, 0xFFFEE0DD, 0x00090010),
        ]
    ),
    st.integers(0, 0xFFFFFFFF),
)
VR = st.one_of(st.sampled_from([b"CS", b"US", b"SQ", b"OB", b"OW", b"UN", b"PN", b"IS", b"DS", b"LO", b"UI"]), SHORT)
LONG_VRS = {b"OB", b"OW", b"SQ", b"UN"}


def element(tag: int, vr: bytes, length: int | None, value: bytes, *, explicit: bool) -> bytes:
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    length = len(value) if length is None else length
    if not explicit or tag >> 16 == 0xFFFE:
        return head + struct.pack("<I", length) + value
    if vr in LONG_VRS:
        return head + vr + struct.pack("<2xI", length) + value
    return head + vr[:2].ljust(2, b"A") + struct.pack("<H", length & 0xFFFF) + value


ELEMENT = st.tuples(TAG, VR, st.one_of(st.none(), LENGTH), SHORT)


@fuzzed(300)
@given(elements=st.lists(ELEMENT, max_size=12), explicit=st.booleans(), place=st.floats(0, 1), step=STEP)
def test_a_dicom_file_of_any_elements(elements: list[Any], explicit: bool, place: float, step: int) -> None:
    whole = written(dicom_radiograph(np.zeros((8, 8), np.uint8)))
    begins = whole.index(struct.pack("<HH", 8, 0x16))
    at = begins + int((len(whole) - begins) * place)
    strange = b"".join(element(*parts, explicit=explicit) for parts in elements)
    judged(dicoms.cleaned, whole[:at] + strange + whole[at:], step)


@fuzzed(200)
@given(elements=st.lists(ELEMENT, min_size=1, max_size=12), explicit=st.booleans(), order=st.sampled_from("<>"))
def test_nested_elements_end_or_are_refused(elements: list[Any], explicit: bool, order: str) -> None:
    data = b"".join(element(*parts, explicit=explicit) for parts in elements)
    with suppress(ImageRejected):
        read = Elements(pieces(data, 64), explicit=explicit, order=order)
        while read.tag() is not None:
            read.skip(read.header())


# HTTP, its bodies, names and queries


@fuzzed(60)
@given(
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), SHORT), min_size=1, max_size=4),
    name=st.text(max_size=40),
    cut=st.one_of(st.none(), st.floats(0, 1)),
)
def test_a_body_of_any_parts(api: Api, radiograph: Radiograph, edits: list[Any], name: str, cut: float | None) -> None:
    body = bytearray(multipart([("a.png", radiograph(1)), (name.encode(errors="ignore").decode(), b"text")]))
    for place, data in edits:
        at = int(place * len(body))
        body[at : at + len(data)] = data
    sent = bytes(body) if cut is None else bytes(body[: int(cut * len(body))])
    assert api.post(sent).status_code in {202, 400, 413, 422}
    api.nothing_unfinished()


@fuzzed(60)
@given(name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=60).filter(lambda name: "\0" not in name))
def test_any_name_is_given_back_as_it_came(api: Api, radiograph: Radiograph, name: str) -> None:
    answer = api.submit({name: radiograph(1)})
    if answer.status_code == 202:
        listed = api.client.get(f"/v1/batches/{answer.get_json()['id']}/images").get_json()["data"]
        assert listed[0]["custom_id"] == api.images()[-1].custom_id
        page = api.client.get(f"/batches/{answer.get_json()['id']}")
        assert page.status_code == 200
    else:
        assert answer.status_code in {400, 422}


@fuzzed(80)
@given(
    path=st.sampled_from(
        ["/v1/batches", "/v1/batches/x", "/v1/batches/x/images", "/v1/batches/x/results", "/batches/x"]
    ),
    query=st.dictionaries(
        st.sampled_from(["limit", "after", "partial", "lane", "synthetic", "x"]), st.text(max_size=20)
    ),
    accept=st.sampled_from([None, "*/*", "text/csv", "a/b", ";;,", "\x7f"]),
)
def test_any_query_is_answered(api: Api, path: str, query: dict[str, str], accept: str | None) -> None:
    headers = {"Accept": accept} if accept else {}
    assert api.client.get(path, query_string=query, headers=headers).status_code < 500


# The harness behind `make fuzz`


def test_a_door_that_refuses_everything_does_not_pass_for_one_that_holds() -> None:
    shut, sound = Tally("images", 0.25, 0.1), Tally("images", 0.25, 0.1)
    shut.add(Counter({"413 too_large": 500}), refused=500)
    sound.add(Counter({"truncated": 70, "classified, negative": 30, "decoder_died": 1}), refused=40)
    assert len(list(shut.problems())) == 2
    assert list(sound.problems()) == []


@pytest.mark.parametrize("answer", ["worker_died", "model_output", "image_lost", "no answer"])
def test_what_is_our_own_failure_breaks_the_run(answer: str) -> None:
    tally = Tally("images", 0.25, 0.1)
    tally.add(Counter({"classified, negative": 999, answer: 1}), refused=0)
    assert len(list(tally.problems())) == 1


@pytest.mark.parametrize("boundary", ["", "x" * 500, '"', "a b", BOUNDARY + "\r\nX: y"])
def test_any_boundary_is_answered(api: Api, boundary: str) -> None:
    answer = api.post(b"--" + boundary.encode(), f"multipart/form-data; boundary={boundary!r}".replace("\r\n", ""))
    assert answer.status_code in {400, 422}
