"""Other people's files, and one radiograph in many encodings: the right answer to each."""

import io
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from tests import dicoms
from tests.pictures import png, saved
from tests.project import ORIGINALS
from tests.test_door import cleaned
from worker import dicom
from worker.decision import Decision
from worker.formats import MAGIC_BYTES, MAX_PIXELS, media_type
from worker.radiograph import Grey, decode
from worker.rejection import ImageRejected

PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
FILES = {str(path.relative_to(PYDICOM)): path for path in sorted(PYDICOM.rglob("*")) if path.is_file()}

NO_DICOM_MARK = {
    *("ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm", "no_meta.dcm", "rtstruct.dcm", "rtplan.dump"),
    *(
        "rtstruct.dump",
        "README.txt",
        "crayons.icc",
        "test1.json",
        "test_PN.json",
        "zipMR.gz",
        "dicomdirtests/README.txt",
        "dicomdirtests/TINY_ALPHA/README",
    ),
}
RADIOGRAPHS = {f"dicomdirtests/77654033/CR{number}/{name}" for number, name in ((1, 6154), (2, 6247), (3, 6278))}
DEFLATED = {"image_dfl.dcm"}
# What is known of the others once they are called radiographs.
CUT_OFF = {"MR_truncated.dcm"}
# 64 x 64 pixels and 128 bytes more: zeros here, but just as many would be a 65th column.
OTHER_SIZE = {"MR_small_padded.dcm"}
# The scan header of the first breaks the JPEG standard; the size in the second was overwritten to make a trap.
DAMAGED = {"JPEG-lossy.dcm", "JPEG2000-embedded-sequence-delimiter.dcm"}
FILMS = {
    "SC_rgb_rle_16bit_2frame.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_rle_32bit_2frame.dcm",
    "examples_ybr_color.dcm",
    *("rtdose.dcm", "rtdose_expb.dcm", "rtdose_rle.dcm"),
}
NO_IMAGE = {"reportsi.dcm", "reportsi_with_empty_number_tags.dcm", "test-SR.dcm", "nested_priv_SQ.dcm"}
# A dose in 32 bits, which no radiograph has; and "1A" frames.
NO_RADIOGRAPH = {"rtdose_1frame.dcm", "rtdose_expb_1frame.dcm", "rtdose_rle_1frame.dcm", "badVR.dcm"}


def seen(data: bytes, *, at_the_door: bool = True) -> str | Grey:
    """The grey levels, or the code that the door gives, or else the decoder, or the decoder alone."""
    if media_type(data[:MAGIC_BYTES]) is None:
        return "unsupported_type"
    try:
        return dicom.grey(cleaned(data) if at_the_door else data, max_pixels=MAX_PIXELS)
    except ImageRejected as rejected:
        return rejected.code


def answer(data: bytes) -> str:
    found = seen(data)
    return found if isinstance(found, str) else "read"


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_pydicom_gets_the_right_answer(name: str) -> None:
    expected = "wrong_modality"
    if name in NO_DICOM_MARK:
        expected = "unsupported_type"
    elif name in RADIOGRAPHS:
        expected = "read"
    elif name in DEFLATED:
        expected = "unsupported_transfer_syntax"
    assert answer(FILES[name].read_bytes()) == expected


@pytest.mark.parametrize("name", sorted(RADIOGRAPHS))
def test_the_real_radiographs_are_known_for_a_neck_by_their_tags(name: str) -> None:
    reasons = dicom.told(cleaned(FILES[name].read_bytes())).marks
    assert reasons == (("lateral_view", "other_body_part") if "CR1" in name else ("other_body_part",))


def called_radiograph(name: str) -> bytes | None:
    """The file with another modality, in place, in each of the three encodings; or with one, where it tells none."""
    data = whole = FILES[name].read_bytes()
    for other in (b"CT", b"MR", b"US", b"OT", b"NM", b"SR"):
        for before in (b"\x08\0\x60\0CS\2\0", b"\x08\0\x60\0\2\0\0\0", b"\0\x08\0\x60CS\0\2"):
            data = data.replace(before + other, before + b"CR")
    if data != whole:
        return data
    return None if name in NO_DICOM_MARK | RADIOGRAPHS | DEFLATED else told_its_modality(FILES[name])


def told_its_modality(path: Path) -> bytes | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path)
        if "PixelData" not in dataset or "TransferSyntaxUID" not in dataset.file_meta:
            return None
        dataset.Modality = "CR"
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        return buffer.getvalue()


TELLS_NO_MODALITY = {
    *("GDCMJ2K_TextGBR.dcm", "JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm", "SC_rgb_jls_lossy_line.dcm"),
    *("SC_rgb_jls_lossy_sample.dcm", "SC_jpeg_no_color_transform.dcm", "SC_jpeg_no_color_transform_2.dcm"),
    "SC_rgb_jpeg_app14_dcmd.dcm",
}
BRIGHTNESS = {1: [1.0], 3: [0.299, 0.587, 0.114]}
CALLED = {name: data for name in FILES if (data := called_radiograph(name))}


@pytest.mark.parametrize("name", [name for name in CALLED if name not in NO_DICOM_MARK and "/" not in name])
def test_every_image_of_pydicom_is_read_once_it_is_called_a_radiograph(name: str) -> None:
    unreadable = CUT_OFF | OTHER_SIZE | DAMAGED | NO_IMAGE | NO_RADIOGRAPH
    expected = "truncated" if name in unreadable else "multi_frame" if name in FILMS else "read"
    assert answer(CALLED[name]) == expected


def test_the_door_changes_no_code_and_no_pixel() -> None:
    for name, data in {**{name: path.read_bytes() for name, path in FILES.items()}, **CALLED}.items():
        np.testing.assert_array_equal(seen(data), seen(data, at_the_door=False), name)


@pytest.mark.parametrize("name", sorted(TELLS_NO_MODALITY))
def test_the_pixels_of_an_image_that_told_no_modality_are_those_of_pydicom(name: str) -> None:
    whole, kept = (pydicom.dcmread(io.BytesIO(data)) for data in (CALLED[name], cleaned(CALLED[name])))
    np.testing.assert_array_equal(kept.pixel_array, whole.pixel_array)
    brightness = whole.pixel_array.reshape(*whole.pixel_array.shape[:2], -1) @ BRIGHTNESS[whole.SamplesPerPixel]
    highest = (1 << whole.BitsStored) - 1
    np.testing.assert_array_equal(seen(CALLED[name]), np.rint(brightness * 255 / highest))


# One radiograph


def _oriented(orientation: int, kind: str, grey: Grey) -> bytes:
    image = Image.fromarray(grey)
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    quality = {"quality": 95} if kind == "JPEG" else {}
    return saved(image if undo is None else image.transpose(undo), kind, exif=exif, **quality)


def _in_12(grey: Grey, *, signed: bool = False) -> NDArray[Any]:
    """The same levels in the lower 12 of 16 bits, as many detectors have them."""
    return (grey.astype(int) * 4095 // 255).astype(np.int16 if signed else np.uint16)


def _png_in_12(grey: Grey, colour: int, channels: int) -> bytes:
    levels = np.dstack([_in_12(grey)] * channels)
    if colour in {4, 6}:
        levels[..., -1] = 65535
    return png(levels.astype(">u2"), 16, colour)


def _dicom(grey: NDArray[Any], syntax: str = "", *, j2k_cr: list[int] | None = None, **tags: Any) -> bytes:
    dataset = dicoms.radiograph(grey, **tags)
    options = {"j2k_cr": j2k_cr} if j2k_cr else {}
    return dicoms.written(dicoms.compressed(syntax, dataset, **options) if syntax else dataset)


_FALLING = np.arange(255, -1, -1) * 257
ENCODINGS: dict[str, Callable[[Grey], bytes]] = {
    "PNG, 16 bits": lambda grey: saved(Image.fromarray(grey.astype(np.uint16) * 257)),
    "PNG, 12 of 16 bits": lambda grey: saved(Image.fromarray(_in_12(grey))),
    "PNG, 12 of 16 bits, RGB": lambda grey: _png_in_12(grey, 2, 3),
    "PNG, 12 of 16 bits, grey and alpha": lambda grey: _png_in_12(grey, 4, 2),
    "PNG, 12 of 16 bits, RGBA": lambda grey: _png_in_12(grey, 6, 4),
    "PNG, RGB": lambda grey: saved(Image.fromarray(grey).convert("RGB")),
    "JPEG, quality 95": lambda grey: saved(Image.fromarray(grey), "JPEG", quality=95),
    "JPEG, RGB, quality 95": lambda grey: saved(Image.fromarray(grey).convert("RGB"), "JPEG", quality=95),
    "DICOM, MONOCHROME2": _dicom,
    "DICOM, MONOCHROME1": lambda grey: _dicom(255 - grey, PhotometricInterpretation="MONOCHROME1"),
    "DICOM, 12 bits": lambda grey: _dicom(_in_12(grey), bits=12),
    "DICOM, 12 of 16 bits": lambda grey: _dicom(_in_12(grey), bits=16),
    "DICOM, 12 of 16 bits, MONOCHROME1": lambda grey: _dicom(
        _in_12(255 - grey), bits=16, PhotometricInterpretation="MONOCHROME1"
    ),
    "DICOM, 12 of 16 bits, signed": lambda grey: _dicom(_in_12(grey, signed=True), bits=16),
    "DICOM, modality LUT": lambda grey: _dicom(255 - grey, ModalityLUTSequence=dicoms._lut(_FALLING)),
    "DICOM, VOI LUT": lambda grey: _dicom(255 - grey, VOILUTSequence=dicoms._lut(_FALLING)),
    "DICOM, 16 bits, window": lambda grey: _dicom(
        grey.astype(np.uint16) * 257, bits=16, WindowCenter="32768", WindowWidth="65536"
    ),
    "DICOM, JPEG 2000 lossless": lambda grey: _dicom(grey, JPEG2000Lossless),
    "DICOM, JPEG 2000 lossy": lambda grey: _dicom(grey, JPEG2000, j2k_cr=[8]),
    "DICOM, JPEG, quality 95": lambda grey: dicoms.written(
        dicoms.encapsulated(JPEGBaseline8Bit, dicoms.jpeg(grey), Rows=len(grey), Columns=len(grey[0]))
    ),
    "DICOM, RLE": lambda grey: _dicom(grey, RLELossless),
    "DICOM, big endian": lambda grey: dicoms.written(dicoms.big_endian(dicoms.radiograph(grey.astype("u2"), bits=8))),
    **{f"PNG, orientation {way}": partial(_oriented, way, "PNG") for way in range(1, 9)},
}
_MOST_PIXELS = 700_000
_RADIOGRAPHS = 10
Score = Callable[[list[bytes]], NDArray[np.float64]]


@pytest.fixture(scope="module")
def greys() -> list[Grey]:
    """Radiographs as published, in 8-bit grey, that the gate lets through: only they have a score."""
    pictures = []
    for path in sorted(ORIGINALS.glob("*.[jp][pn]*g")):
        with Image.open(path) as image:
            if image.width * image.height <= _MOST_PIXELS:
                pictures.append(np.asarray(image.convert("L")))
    if not pictures:
        pytest.skip("../shared/data/originals is not here")
    from worker.gate import Gate  # noqa: PLC0415 - loads TensorFlow

    judged = Gate(batch_size=8).judge([decode(saved(Image.fromarray(grey))) for grey in pictures])
    passed = [grey for grey, reasons in zip(pictures, judged, strict=True) if not reasons]
    assert len(passed) >= _RADIOGRAPHS
    return passed[:_RADIOGRAPHS]


@pytest.fixture(scope="module")
def score() -> Score:
    from training import shipped  # noqa: PLC0415
    from worker.predictor import Predictor  # noqa: PLC0415

    card, weights = shipped.load()
    decision = Decision.of(card)
    predictor = Predictor(weights, decision, preprocessing=card.preprocessing, batch_size=_RADIOGRAPHS)

    def probabilities(files: list[bytes]) -> NDArray[np.float64]:
        told = [one.probability for one in predictor.predict([decode(cleaned(file)) for file in files])]
        numbers = [number for number in told if number is not None]
        assert len(numbers) == len(files)
        return np.array(numbers)

    return probabilities


@pytest.fixture(scope="module")
def as_png(greys: list[Grey], score: Score) -> NDArray[np.float64]:
    return score([saved(Image.fromarray(grey)) for grey in greys])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_two_encodings_of_one_radiograph_score_within_two_hundredths(
    greys: list[Grey], score: Score, as_png: NDArray[np.float64], encoding: str
) -> None:
    assert np.abs(as_png - score([ENCODINGS[encoding](grey) for grey in greys])).max() <= 0.02


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_jpeg_scores_within_two_hundredths_of_both(
    greys: list[Grey], score: Score, as_png: NDArray[np.float64], as_jpeg: NDArray[np.float64], orientation: int
) -> None:
    """Its blocks lie elsewhere than those of one that is not turned, so the noise of the compression is another."""
    turned = score([_oriented(orientation, "JPEG", grey) for grey in greys])
    assert np.abs(as_jpeg - turned).max() <= 0.02
    assert np.abs(as_png - turned).max() <= 0.02


@pytest.fixture(scope="module")
def as_jpeg(greys: list[Grey], score: Score) -> NDArray[np.float64]:
    return score([ENCODINGS["JPEG, quality 95"](grey) for grey in greys])
