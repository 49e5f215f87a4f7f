"""Other people's files, and one radiograph in many encodings: the right answer to each."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import JPEG2000Lossless, RLELossless

from tests import dicoms
from tests.pictures import png, saved
from tests.project import ORIGINALS
from tests.test_door import cleaned
from worker.decision import Decision
from worker.formats import MAGIC_BYTES, media_type
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
# What is known of the others once they are called radiographs.
CUT_OFF = {"MR_truncated.dcm"}
# The scan header of the first breaks the JPEG standard; the size in the second was overwritten to make a trap.
DAMAGED = {"JPEG-lossy.dcm", "JPEG2000-embedded-sequence-delimiter.dcm"}
FILMS = {
    "SC_rgb_rle_16bit_2frame.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_rle_32bit_2frame.dcm",
    "examples_ybr_color.dcm",
}
NO_IMAGE = {"reportsi.dcm", "reportsi_with_empty_number_tags.dcm", "test-SR.dcm"}


def answer(data: bytes, *, at_the_door: bool = True) -> str:
    """What the door says, or else the decoder, or the decoder alone; "read" where it is taken."""
    if media_type(data[:MAGIC_BYTES]) is None:
        return "unsupported_type"
    try:
        decode(cleaned(data) if at_the_door else data)
    except ImageRejected as rejected:
        return rejected.code
    return "read"


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_pydicom_gets_the_right_answer(name: str) -> None:
    expected = "wrong_modality"
    if name in NO_DICOM_MARK:
        expected = "unsupported_type"
    elif name in RADIOGRAPHS:
        expected = "read"
    elif name == "image_dfl.dcm":
        expected = "unsupported_transfer_syntax"
    assert answer(FILES[name].read_bytes()) == expected


def called_radiograph(data: bytes) -> bytes:
    """The file with another modality, in place, in each of the three encodings."""
    for other in (b"CT", b"MR", b"US", b"OT", b"NM", b"SR"):
        for before in (b"\x08\0\x60\0CS\2\0", b"\x08\0\x60\0\2\0\0\0", b"\0\x08\0\x60CS\0\2"):
            data = data.replace(before + other, before + b"CR")
    return data


CALLED = {
    name: data for name, path in FILES.items() if (data := called_radiograph(path.read_bytes())) != path.read_bytes()
}


@pytest.mark.parametrize("name", [name for name in CALLED if name not in NO_DICOM_MARK and "/" not in name])
def test_every_image_of_pydicom_is_read_once_it_is_called_a_radiograph(name: str) -> None:
    expected = "truncated" if name in CUT_OFF | DAMAGED | NO_IMAGE else "multi_frame" if name in FILMS else "read"
    assert answer(CALLED[name]) == expected


def test_the_door_and_the_decoder_give_the_same_code() -> None:
    for name, data in {**{name: path.read_bytes() for name, path in FILES.items()}, **CALLED}.items():
        assert answer(data) == answer(data, at_the_door=False), name


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


def _dicom(grey: NDArray[Any], syntax: str = "", **tags: Any) -> bytes:
    dataset = dicoms.radiograph(grey, **tags)
    return dicoms.written(dicoms.compressed(syntax, dataset) if syntax else dataset)


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
    "DICOM, RLE": lambda grey: _dicom(grey, RLELossless),
    **{f"PNG, orientation {way}": partial(_oriented, way, "PNG") for way in range(1, 9)},
}
_MOST_PIXELS = 700_000
_RADIOGRAPHS = 5


@pytest.fixture(scope="module")
def greys() -> list[Grey]:
    """Radiographs as published, in 8-bit grey."""
    found: list[Grey] = []
    for path in sorted(ORIGINALS.glob("*.[jp][pn]*g"))[::5]:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            if image.width * image.height <= _MOST_PIXELS and len(found) < _RADIOGRAPHS:
                found.append(np.asarray(image.convert("L")))
    if not found:
        pytest.skip("../shared/data/originals is not here")
    return found


@pytest.fixture(scope="module")
def score() -> Callable[[list[bytes]], list[float]]:
    from training import shipped  # noqa: PLC0415
    from worker.predictor import Predictor  # noqa: PLC0415 - loads TensorFlow

    card, weights = shipped.load()
    decision = Decision.of(card)
    predictor = Predictor(weights, decision, preprocessing=card.preprocessing, batch_size=8)

    def probabilities(files: list[bytes]) -> list[float]:
        told = [one.probability for one in predictor.predict([decode(cleaned(file)) for file in files])]
        numbers = [number for number in told if number is not None]
        assert len(numbers) == len(files)
        return numbers

    return probabilities


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_two_encodings_of_one_radiograph_score_within_two_hundredths(
    greys: list[Grey], score: Callable[[list[bytes]], list[float]], encoding: str
) -> None:
    as_png = score([saved(Image.fromarray(grey)) for grey in greys])
    other = score([ENCODINGS[encoding](grey) for grey in greys])
    assert np.abs(np.subtract(as_png, other)).max() <= 0.02


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_jpeg_scores_within_four_hundredths(
    greys: list[Grey], score: Callable[[list[bytes]], list[float]], orientation: int
) -> None:
    """Its blocks lie elsewhere than those of one that is not turned, so the noise of the compression adds up: docs/model.md."""
    upright = score([ENCODINGS["JPEG, quality 95"](grey) for grey in greys])
    turned = score([_oriented(orientation, "JPEG", grey) for grey in greys])
    assert np.abs(np.subtract(upright, turned)).max() <= 0.04
