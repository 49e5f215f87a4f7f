"""The door: what comes in leaves its names outside, keeps its pixels, and is judged by its header."""

import hashlib
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)

from api import dicoms, jpegs, pngs
from api.pieces import Pieces, joined
from tests import dicoms as made
from tests import pictures
from tests.examples import fuzzed
from tests.pictures import chest, chunk, saved
from tests.planted import NAME, named
from tests.project import ORIGINALS, needs_originals
from worker import dicom
from worker.formats import DICOM, JPEG, MAGIC_BYTES, PNG, media_type
from worker.radiograph import decode
from worker.rejection import ImageRejected

CLEANED = {PNG: pngs.cleaned, JPEG: jpegs.cleaned, DICOM: dicoms.cleaned}


def _written(make: Callable[[], Dataset]) -> bytes:
    return made.written(make())


EXACT: dict[str, Callable[[], bytes]] = {
    **{f"PNG, {name}": make for name, make in pictures.EXACT.items()},
    **{f"DICOM, {name}": partial(_written, make) for name, make in made.EXACT.items()},
    "JPEG": lambda: saved(pictures.grey_image(), "JPEG"),
    "JPEG, progressive": lambda: saved(pictures.grey_image(), "JPEG", progressive=True),
    "JPEG, CMYK": lambda: saved(pictures.grey_image().convert("CMYK"), "JPEG"),
}


def cleaned(data: bytes, *, size: int = 1 << 20) -> bytes:
    kind = media_type(data[:MAGIC_BYTES])
    assert kind
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    return b"".join(joined(CLEANED[kind](Pieces(pieces)), 1000))


def rejection(data: bytes) -> str:
    with pytest.raises(ImageRejected) as caught:
        cleaned(data)
    assert NAME.decode() not in caught.value.words
    return caught.value.code


# What the pixels need stays


@pytest.mark.parametrize("kind", EXACT)
def test_the_pixels_stay_as_they_were(kind: str) -> None:
    data = EXACT[kind]()
    np.testing.assert_array_equal(decode(cleaned(data)), decode(data))


@pytest.mark.parametrize("kind", EXACT)
def test_however_the_bytes_arrive_the_same_is_kept(kind: str) -> None:
    data = EXACT[kind]()
    assert {hashlib.sha256(cleaned(data, size=size)).digest() for size in (len(data), 4096, 61)} == {
        hashlib.sha256(cleaned(data)).digest()
    }
    assert cleaned(cleaned(data)) == cleaned(data)


@needs_originals
def test_the_pixels_of_published_radiographs_stay() -> None:
    originals = [path for path in sorted(ORIGINALS.glob("*.*")) if path.suffix in {".png", ".jpg", ".jpeg"}]
    assert originals
    for path in originals:
        data = path.read_bytes()
        np.testing.assert_array_equal(decode(cleaned(data)), decode(data), path.name)


@pytest.mark.parametrize("behind", [1, 3])
def test_an_odd_number_of_samples_keeps_its_last_one_in_big_endian(behind: int) -> None:
    """8 bits in words of two bytes: its last pixel stands behind the byte that pads."""
    pixels = made.CHEST[:5, :7]
    dataset = made.radiograph(pixels)
    dataset.PixelData = np.append(pixels, np.zeros(behind, np.uint8)).view("u2").byteswap().tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    data = made.written(dataset)
    np.testing.assert_array_equal(dicom.grey(cleaned(data), max_pixels=100), pixels)


@pytest.mark.parametrize("order", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_encodings_of_dicom_keep_their_pixels(order: UID) -> None:
    dataset = made.radiograph(made.CHEST_12, bits=12, VOILUTSequence=made._lut(np.arange(4096) * 16))
    if order == ExplicitVRBigEndian:
        dataset.PixelData = made.CHEST_12.astype(">u2").tobytes()
        dataset.VOILUTSequence[0][0x00283006].value = (np.arange(4096) * 16).astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = order
    data = made.written(dataset)
    np.testing.assert_array_equal(decode(cleaned(data)), decode(data))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_table_for_signed_pixels_keeps_its_sign(syntax: UID) -> None:
    lut = made._lut(np.arange(256) * 257)
    lut[0][0x00283002].value = [256, 0, 16]
    signed = (made.CHEST.astype(int) - 128).astype(np.int8)
    dataset = made.radiograph(signed, VOILUTSequence=lut)
    data = bytearray(made.written(_of_syntax(dataset, syntax)))
    first = data.index(struct.pack("<3H", 256, 0, 16)) + 2
    data[first : first + 2] = struct.pack("<h", -128)
    if syntax == ExplicitVRLittleEndian:
        data[first - 6 : first - 4] = b"SS"
    np.testing.assert_array_equal(decode(cleaned(bytes(data))), decode(bytes(data)))
    assert decode(cleaned(bytes(data))).std() > 20


def _of_syntax(dataset: Dataset, syntax: UID) -> Dataset:
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_of_exif_the_orientation_alone_stays(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x013B] = orientation, NAME.decode(), NAME.decode()
    data = saved(pictures.grey_image(), kind, exif=exif)
    assert NAME in data
    kept = cleaned(data)
    assert NAME not in kept
    np.testing.assert_array_equal(decode(kept), decode(data))


def test_an_orientation_in_a_text_stays_without_the_text() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = exif.tobytes().hex()
    packet, profile, compressed = PngInfo(), PngInfo(), PngInfo()
    xmp = f'<x:xmpmeta tiff:Orientation="6" {NAME.decode()}/>'
    packet.add_itxt("XML:com.adobe.xmp", xmp)
    compressed.add_itxt("XML:com.adobe.xmp", xmp, zip=True)
    profile.add_text("Raw profile type exif", f"\nexif\n{len(raw) // 2:8}\n{raw}\n", zip=True)
    files = [saved(pictures.grey_image(), pnginfo=info) for info in (packet, profile, compressed)]
    files.append(saved(pictures.grey_image(), "JPEG", xmp=xmp.encode()))
    for data in files:
        kept = cleaned(data)
        assert NAME not in kept
        np.testing.assert_array_equal(decode(kept), decode(data))


def test_every_syntax_that_the_door_lets_in_can_be_decoded() -> None:
    assert all(get_decoder(syntax.decode()).is_available for syntax in dicoms.SYNTAXES)


def test_a_dicom_file_that_tells_no_syntax_has_the_default_one() -> None:
    dataset = made.radiograph()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    data = made.written(dataset)
    syntax = data.index(struct.pack("<HH2s", 2, 0x10, b"UI"))
    without = data[:syntax] + data[syntax + 26 :]
    np.testing.assert_array_equal(decode(cleaned(without)), decode(data))


# What cannot be classified is answered at once


def test_what_is_cut_off_is_truncated_wherever_that_was() -> None:
    for data in (saved(Image.fromarray(chest(24))), made.written(made.radiograph(made.CHEST[:16, :16]))):
        codes = {rejection(data[:length]) for length in range(MAGIC_BYTES, len(data) - 1, 7)}
        assert codes <= {"truncated", "wrong_modality"}
    for progressive in (False, True):
        jpeg = saved(Image.fromarray(chest(24)), "JPEG", progressive=progressive)
        assert {rejection(jpeg[:length]) for length in range(3, len(jpeg))} == {"truncated"}
    inside = made.encapsulated(JPEGBaseline8Bit, made.jpeg(made.CHEST)[:-2])
    assert rejection(made.written(inside)) == "truncated"


def test_a_header_is_enough_for_a_png_or_jpeg_of_too_many_pixels() -> None:
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    jpeg = bytearray(saved(Image.fromarray(chest(16)), "JPEG"))
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = struct.pack(">HH", 60_000, 60_000)
    assert (rejection(png), rejection(bytes(jpeg))) == ("too_large", "too_large")


@pytest.mark.parametrize("kind", ["PNG", "MPO"])
def test_several_frames_are_seen_in_the_header(kind: str) -> None:
    frames = [Image.fromarray(np.full((32, 32), level, np.uint8)).convert("RGB") for level in (10, 200)]
    assert rejection(saved(frames[0], kind, save_all=True, append_images=frames[1:])) == "multi_frame"


SMALL = [
    saved(Image.fromarray(chest(24))),
    saved(Image.fromarray(chest(24)), exif=Image.Exif()),
    saved(Image.fromarray(chest(24)), "JPEG", progressive=True, exif=b"Exif\0\0II*\0", comment=b"x" * 40),
    made.written(made.radiograph(made.CHEST[:16, :16], VOILUTSequence=made._lut(np.arange(256)))),
    made.written(made.encapsulated(JPEGBaseline8Bit, made.jpeg(made.CHEST[:16, :16]), Rows=16, Columns=16)),
    made.written(made.compressed(JPEG2000Lossless, made.radiograph(made.CHEST[:64, :64]))),
    made.written(named()),
]


@fuzzed(400)
@given(
    data=st.sampled_from(SMALL),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    size=st.integers(1, 4096),
)
def test_garbled_files_are_cleaned_or_rejected_and_nothing_else(
    data: bytes, edits: list[tuple[float, int]], size: int
) -> None:
    garbled = bytearray(data)
    for place, value in edits:
        garbled[int(place * len(data))] = value
    with suppress(ImageRejected):
        if media_type(bytes(garbled[:MAGIC_BYTES])):
            kept = cleaned(bytes(garbled), size=size)
            assert len(kept) <= len(garbled) + 200
            decode(kept)
