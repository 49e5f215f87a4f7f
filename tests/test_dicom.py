"""DICOM: the same radiograph in every encoding looks the same, and no tag can do harm."""

import io
import logging
import resource
import struct
import warnings
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from tests.dicoms import (
    CHEST,
    EXACT,
    _lut,
    compressed,
    encapsulated,
    jpeg,
    lossless_jpeg,
    radiograph,
    written,
)
from tests.examples import fuzzed
from tests.test_door import cleaned
from tests.test_door import rejection as at_the_door
from worker import dicom
from worker.formats import MAX_PIXELS
from worker.radiograph import Grey, decode
from worker.rejection import ImageRejected


def grey(dataset: Dataset) -> Grey:
    return dicom.grey(written(dataset), max_pixels=MAX_PIXELS)


def rejection(data: bytes | Dataset) -> str:
    with pytest.raises(ImageRejected) as caught:
        decode(written(data) if isinstance(data, Dataset) else data)
    assert "Doe" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("encoding", EXACT)
def test_the_same_radiograph_in_every_encoding_is_the_same(encoding: str) -> None:
    found = grey(EXACT[encoding]())
    step = len(CHEST) // len(found)
    assert np.abs(found.astype(int) - CHEST[::step, ::step]).max() <= 1


def test_png_and_dicom_of_one_radiograph_look_the_same_to_the_model() -> None:
    def as_png(pixels: NDArray[Any]) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    expected = decode(as_png(CHEST)).astype(int)
    large = [dataset for make in EXACT.values() if (dataset := make()).Rows == len(CHEST)]
    for data in [as_png(CHEST.astype(np.uint16) * 257), *map(written, large)]:
        assert np.abs(decode(data) - expected).max() <= 1
    assert np.abs(decode(jpeg(CHEST)) - expected).mean() < 2


def test_jpeg_baseline_inside_dicom_is_near() -> None:
    found = grey(encapsulated(JPEGBaseline8Bit, jpeg(CHEST)))
    assert np.abs(found.astype(int) - CHEST).mean() < 2


def test_implicit_and_unusual_files_are_read() -> None:
    dataset = radiograph()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    np.testing.assert_array_equal(grey(dataset), CHEST)


@pytest.mark.parametrize(
    "name",
    ["MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "MR_small_bigendian", "MR_small_expb"],
)
def test_other_peoples_lossless_files_look_like_their_original(name: str) -> None:
    np.testing.assert_array_equal(grey(_of_pydicom(name)), grey(_of_pydicom("MR_small")))


def _of_pydicom(name: str) -> Dataset:
    path = get_testdata_file(f"{name}.dcm", download=False)
    assert isinstance(path, str)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(path)
        dataset.Modality = "CR"
        return dataset


@pytest.mark.parametrize("syntax", [MPEG2MPML, "1.2.840.10008.1.2.4.106", "1.2.840.99999.1.2.4.100"])
def test_a_syntax_without_decoder_is_named(syntax: str) -> None:
    data = written(encapsulated(MPEG2MPML, bytes(100)))
    assert rejection(data.replace(MPEG2MPML.encode(), syntax.encode())) == "unsupported_transfer_syntax"


@pytest.mark.parametrize("far_behind", [False, True])
def test_deflated_is_refused_before_it_is_inflated(far_behind: bool) -> None:
    """522 kB of it became 1,094 MB; the syntax may stand behind any length of other tags."""
    meta = written(radiograph())
    meta = meta[: meta.index(struct.pack("<HH", 8, 0x16))].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    syntax = struct.pack("<HH2sH", 2, 0x10, b"UI", 22) + DeflatedExplicitVRLittleEndian.encode()
    private = struct.pack("<HH2sHI", 2, 1, b"OB", 0, 4000) + bytes(4000)
    head = bytes(128) + b"DICM" + (private if far_behind else b"") + syntax
    packer = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    assert _without_allocating(head + bomb) == "unsupported_transfer_syntax"


@pytest.mark.parametrize("modality", ["CT", "MR", "US", "", ["CR", "CT"]])
def test_other_modalities_are_rejected(modality: Any) -> None:
    assert rejection(radiograph(Modality=modality)) == "wrong_modality"


@pytest.mark.parametrize(
    ("modality", "code"), [("CR", ""), ("DX", ""), ("RG", ""), ("OT", "wrong_modality"), (None, "wrong_modality")]
)
def test_a_secondary_capture_is_a_radiograph_if_its_modality_says_so(modality: str | None, code: str) -> None:
    """There it tells the equipment that the picture was taken from (PS3.3, C.8.6.1)."""
    dataset = radiograph(SOPClassUID=SecondaryCaptureImageStorage, ConversionType="WSD", Modality=modality)
    dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    if modality is None:
        del dataset.Modality
    data = written(dataset)
    if code:
        assert (at_the_door(data), rejection(data)) == (code, code)
    else:
        np.testing.assert_array_equal(dicom.grey(cleaned(data), max_pixels=MAX_PIXELS), CHEST)


def test_a_tiny_file_that_asks_for_488_gib_gets_nothing() -> None:
    asking = radiograph(Rows=65535, Columns=65535, NumberOfFrames="61", BitsAllocated=16, PixelData=bytes(8))
    assert _without_allocating(written(asking)) == "too_large"


def test_a_small_image_of_many_frames_is_too_large_as_well() -> None:
    assert _without_allocating(written(radiograph(NumberOfFrames="99999999"))) == "too_large"


@pytest.mark.parametrize(("rows", "columns"), [(65535, 65535), (9000, 9000)])
@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1])
def test_a_codestream_larger_than_its_tags_is_not_decoded(syntax: str, rows: int, columns: int) -> None:
    if syntax == JPEG2000Lossless:
        frame = bytearray(compressed(syntax, radiograph()).PixelData[16:])
        place = frame.index(b"\xff\x51") + 6  # SIZ: width, height
        frame[place : place + 8] = struct.pack(">II", columns, rows)
    else:
        frame = bytearray(jpeg(CHEST) if syntax == JPEGBaseline8Bit else lossless_jpeg(CHEST))
        place = frame.index(b"\xff\xc0" if syntax == JPEGBaseline8Bit else b"\xff\xc3") + 5
        frame[place : place + 4] = struct.pack(">HH", rows, columns)
    assert _without_allocating(written(encapsulated(syntax, bytes(frame)))) == "truncated"


def _without_allocating(data: bytes) -> str:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code = rejection(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # kB
    return code


def test_several_frames_are_rejected() -> None:
    assert rejection(radiograph(np.vstack([CHEST, CHEST]), Rows=256, NumberOfFrames="2")) == "multi_frame"


@pytest.mark.parametrize("name", ["PixelData", "Rows", "Columns", "BitsAllocated", "PhotometricInterpretation"])
def test_what_is_needed_and_missing_is_truncated(name: str) -> None:
    dataset = radiograph()
    delattr(dataset, name)
    assert rejection(dataset) == "truncated"


@pytest.mark.parametrize(
    "tags",
    [
        {"Rows": 0},
        {"Columns": [1, 2]},
        {"BitsStored": 0},
        {"BitsStored": 60000},
        {"BitsAllocated": 7},
        {"SamplesPerPixel": 60000},
        {"PixelRepresentation": 9},
        {"PhotometricInterpretation": "NONSENSE"},
        {"HighBit": 6},
        {"RescaleSlope": "1e308", "RescaleIntercept": "1e308"},
        {"HighBit": 8},
        {"PixelData": b""},
        {"PixelData": CHEST.tobytes()[:-2]},
        {"VOILUTSequence": Sequence([Dataset()])},
    ],
    ids=lambda tags: next(iter(tags)),
)
def test_senseless_tags_are_truncated(tags: dict[str, Any]) -> None:
    assert rejection(radiograph(**tags)) == "truncated"


@pytest.mark.parametrize(
    ("name", "garbage"),
    [("NumberOfFrames", b"ab"), ("RescaleSlope", b"abc "), ("RescaleSlope", b"nan "), ("WindowWidth", b"\xff\xfe")],
)
def test_garbage_in_a_number_is_truncated(name: str, garbage: bytes) -> None:
    right = {"NumberOfFrames": "77", "RescaleSlope": "7777", "WindowWidth": "77"}
    tags: dict[str, Any] = {"RescaleIntercept": "0", "WindowCenter": "55", name: right[name]}
    data = written(radiograph(**tags))
    assert rejection(data.replace(right[name].encode(), garbage, 1)) == "truncated"


def test_a_file_cut_anywhere_is_rejected_and_its_patient_is_not_named(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        for dataset in (
            radiograph(),
            compressed(JPEG2000Lossless, radiograph()),
            compressed(RLELossless, radiograph()),
        ):
            data = written(dataset)
            for length in [*range(132, 600, 7), *range(600, len(data) - 10, len(data) // 20)]:
                assert rejection(data[:length]) in {"truncated", "wrong_modality"}
    assert caplog.text + "".join(capfd.readouterr()) == ""


def test_only_three_identifiers_are_kept() -> None:
    kept = dicom.told(written(radiograph()))[0]
    assert vars(kept) == {"study_uid": "1.2.3", "sop_uid": "1.2.3.4", "accession": "A-1"}


@pytest.mark.parametrize(
    ("tags", "reasons"),
    [
        ({"ViewPosition": "PA", "BodyPartExamined": "CHEST"}, ()),
        ({"ViewPosition": "LL", "BodyPartExamined": "CHEST"}, ("lateral_view",)),
        ({"BodyPartExamined": "HAND"}, ("other_body_part",)),
        ({"ViewPosition": "LATERAL", "BodyPartExamined": "KNEE"}, ("lateral_view", "other_body_part")),
        ({"BodyPartExamined": "THORAX"}, ()),
    ],
)
def test_tags_tell_a_lateral_view_and_another_body_part(tags: dict[str, Any], reasons: tuple[str, ...]) -> None:
    assert dicom.told(written(radiograph(**tags)))[1] == reasons


def test_identifiers_hold_nothing_that_a_database_refuses() -> None:
    data = written(radiograph(AccessionNumber="A\x01B 1 CDEFGH", SpecificCharacterSet="ISO_IR 192"))
    assert dicom.told(data.replace(b"CDEF", b"\xed\xa0\x80\0"))[0].accession in {
        "AB 1 GH",
        "AB 1 \ufffd\ufffd\ufffdGH",
    }
    assert dicom.told(written(radiograph(AccessionNumber="")))[0].accession is None


SMALL = [
    written(radiograph(CHEST[:16, :16], WindowCenter="128", WindowWidth="256", RescaleSlope="1", RescaleIntercept="0")),
    written(compressed(RLELossless, radiograph(CHEST[:16, :16].astype(np.uint16), bits=12))),
    written(radiograph(CHEST[:16, :16], VOILUTSequence=_lut(np.arange(256)))),
]


@fuzzed(400)
@given(
    data=st.sampled_from(SMALL),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_garbled_files_are_decoded_or_rejected_and_nothing_else(data: bytes, edits: list[tuple[float, int]]) -> None:
    garbled = bytearray(data)
    for place, value in edits:
        garbled[132 + int(place * (len(data) - 132))] = value
    for read in (decode, dicom.told):
        with suppress(ImageRejected):
            read(bytes(garbled))
