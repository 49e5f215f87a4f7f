"""Bad input of every kind through the real service, in one batch: each file has its own answer."""

import csv
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    MPEG2MPML,
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    SMPTEST211020UncompressedProgressiveActiveVideo,
)

from db.batches import Line
from tests import dicoms, pictures
from tests.dicoms import CHEST, NAME, encapsulated, radiograph, written
from tests.pictures import chest, chunk, grey_image, png, saved
from tests.service import Service, zipped
from training.phantoms import phantom
from worker.radiograph import Grey
from worker.rejection import (
    BLANK,
    COLOURED,
    FEW_LEVELS,
    INVERTED,
    LATERAL_VIEW,
    LOW_CONTRAST,
    NOT_FRONTAL,
    OTHER_BODY_PART,
    TURNED,
)

PNG = b"\x89PNG\r\n\x1a\n"
READ = "classified"
NOTED = "palette, alpha, CMYK"
NOTES = ["palette"], ["alpha"], ["alpha"], ["cmyk"], ["palette"], ["palette", "alpha"]


def deflated(**tags: Any) -> bytes:
    """The data set compressed as a whole."""
    whole = written(radiograph(**tags))
    start = whole.index(struct.pack("<HH", 8, 0x16))
    meta = whole[:start].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    length = meta.index(b"UL\4\0") + 4
    meta = meta[:length] + struct.pack("<I", len(meta) - length - 4) + meta[length + 4 :]
    packer = zlib.compressobj(9, wbits=-15)
    return meta + packer.compress(whole[start:]) + packer.flush()


def header(width: int, height: int) -> bytes:
    ends = chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    return PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) + ends


def jpeg_header(width: int, height: int) -> bytes:
    data = bytearray(saved(Image.fromarray(chest(16)), "JPEG"))
    frame = data.index(b"\xff\xc0") + 5
    data[frame : frame + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def frames(kind: str) -> bytes:
    several = [Image.fromarray(np.full((32, 32), level, np.uint8)).convert("RGB") for level in (10, 200)]
    return saved(several[0], kind, save_all=True, append_images=several[1:])


def turned(orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(grey_image(), kind, exif=exif)


def of_syntax(syntax: str) -> bytes:
    return written(encapsulated(MPEG2MPML, bytes(100))).replace(
        MPEG2MPML.encode(), syntax.encode().ljust(24, b"\0")[:24]
    )


def catalogue() -> Iterator[tuple[str, str, list[bytes]]]:
    """(row, expected state or code, files)"""
    grey, jpeg, dicom = saved(grey_image()), saved(grey_image(), "JPEG"), written(radiograph())
    grey_16 = (pictures.CHEST.astype(">u2") * 257).astype(">u2")
    alpha = Image.merge("LA", (grey_image(), grey_image()))
    inside = written(encapsulated(JPEGBaseline8Bit, dicoms.jpeg(CHEST)[:-900]))
    cut = [b"", jpeg[: len(jpeg) // 2], grey[:-12], grey[:200], dicom[:-900], dicom[:200], inside]
    yield "truncated", "truncated", cut
    tiff, gif, bitmap = (saved(grey_image(), kind) for kind in ("TIFF", "GIF", "BMP"))
    yield "other types", "unsupported_type", [tiff, gif, bitmap, b"%PDF-1.7", b"MZ" + bytes(500), b"<html>"]
    asking = radiograph(Rows=65535, Columns=65535, PixelData=bytes(8))
    huge = [header(10_001, 10_000), header(2**31 - 1, 2**31 - 1), jpeg_header(65_000, 65_000), written(asking)]
    yield "more than 100 megapixels by the header", "too_large", huge
    deep = [png(grey_16, 16, 0), png(grey_16 >> 4, 16, 0), png(np.dstack([grey_16] * 3), 16, 2)]
    yield "16-bit PNG", READ, deep
    odd = [saved(grey_image().convert(mode)) for mode in ("P", "RGBA")] + [saved(alpha)]
    cmyk, palette = saved(grey_image().convert("CMYK"), "JPEG"), written(dicoms.EXACT["palette"]())
    yield NOTED, READ, [*odd, cmyk, palette, saved(grey_image().convert("P"), transparency=7)]
    yield "Exif rotation", READ, [turned(way, kind) for way in range(1, 9) for kind in ("PNG", "JPEG")]
    film = [dicoms.radiograph(np.vstack([CHEST] * n), Rows=256, NumberOfFrames=str(n)) for n in (2, 3)]
    yield "several frames", "multi_frame", [frames("PNG"), frames("MPO"), *map(written, film)]
    yield "DICOM in every encoding", READ, [written(make()) for make in dicoms.EXACT.values()]
    yield "radiographs", READ, [written(radiograph(Modality=kind)) for kind in ("CR", "DX", "RG")]
    others = ("CT", "MR", "US", "MG", "OT", "SR", "")
    yield "other modalities", "wrong_modality", [written(radiograph(Modality=kind)) for kind in others]
    unread = [MPEG2MPML, MPEG4HP41, SMPTEST211020UncompressedProgressiveActiveVideo, "1.2.840.99999.1.2.4.100"]
    yield "no codec", "unsupported_transfer_syntax", [of_syntax(syntax) for syntax in unread]
    packed = [deflated(), deflated(PatientComments="x" * 9000), deflated(Modality="CT")]
    assert all(DeflatedExplicitVRLittleEndian.encode() in data for data in packed)
    yield "deflated", "unsupported_transfer_syntax", packed
    greedy: list[dict[str, Any]] = [{"NumberOfFrames": "61"}, {"NumberOfFrames": "9999999"}, {"BitsAllocated": 64}]
    bombs = [radiograph(Rows=65535, Columns=65535, PixelData=bytes(8), **tags) for tags in greedy]
    yield "a tiny file that asks for 488 GiB", "too_large", [written(bomb) for bomb in bombs]
    programs = [b"MZ" + b"\xcc" * 126, b"\x7fELF".ljust(128, b"\0"), b"<script>".ljust(128)]
    yield "a program in the preamble", READ, [program + dicom[128:] for program in programs]
    yield "the same file three times", READ, [grey] * 3
    yield "names within", READ, [written(radiograph(PatientName=name)) for name in (NAME, "=1+1", "\u80f8^\u90e8")]


CATALOGUE = {row: (expected, files) for row, expected, files in catalogue()}


def others() -> Iterator[tuple[str, str, list[bytes]]]:
    """(row, the reason, files) of what can be read and is no upright frontal chest X-ray; real hands are not at hand."""
    frontal, noise = phantom(3), np.random.default_rng(1)
    levels = [np.full((256, 256), level, np.uint8) for level in (0, 90, 255)]
    yield "blank, constant", BLANK, [_png(levels[0]), _jpeg(levels[1]), written(radiograph(levels[2]))]
    grains = (
        noise.integers(0, 256, (256, 256)),
        noise.normal(128, 40, (256, 256)),
        noise.integers(0, 2, (256, 256)) * 255,
    )
    yield "noise", NOT_FRONTAL, [_png(grain.clip(0, 255).astype(np.uint8)) for grain in grains]
    photos = Path(skimage.__file__).parent / "data"
    yield "photo", NOT_FRONTAL, [(photos / name).read_bytes() for name in ("camera.png", "coffee.png", "rocket.jpg")]
    yield (
        "screenshot with text",
        NOT_FRONTAL,
        [_screenshot(words) for words in ("Erika", "PACS: 7 studies", "1\n2\n3\n4")],
    )
    sections = [
        dcmread(str(get_testdata_file(name))).pixel_array
        for name in ("CT_small.dcm", "MR_small.dcm", "examples_overlay.dcm")
    ]
    yield "slice of CT or MR, as a picture", NOT_FRONTAL, [_png(_in_8_bits(section)) for section in sections]
    yield (
        "a hand, by its tag",
        OTHER_BODY_PART,
        [written(radiograph(frontal, BodyPartExamined=part)) for part in ("HAND", "LEFT HAND", "KNEE")],
    )
    yield (
        "lateral view, by its tag",
        LATERAL_VIEW,
        [written(radiograph(frontal, ViewPosition=view)) for view in ("LL", "RL", "LATERAL")],
    )
    few = Image.fromarray(frontal).convert("1")
    packed = np.packbits(frontal > 128, bitorder="little")
    in_dicom = radiograph(frontal, PixelData=packed.tobytes(), BitsAllocated=1, BitsStored=1, HighBit=0)
    as_palette, in_8_bits = saved(few.convert("P")), saved(few.convert("L"), "JPEG", quality=95)
    yield (
        "1 bit",
        FEW_LEVELS,
        [saved(few), as_palette, in_8_bits, written(in_dicom), _png(frontal // 64 * np.uint8(64))],
    )
    windowed = written(radiograph(frontal, WindowCenter="2048", WindowWidth="4096"))
    yield "hardly any grey levels", LOW_CONTRAST, [_png(frontal // 16), _png(frontal // 16 + 100), windowed]
    colours: dict[str, Any] = {"SamplesPerPixel": 3, "PlanarConfiguration": 0}
    ybr = np.asarray(Image.fromarray(frontal).convert("RGB").convert("YCbCr"))
    photo = np.asarray(Image.open(photos / "coffee.png"))
    told = ((np.dstack([frontal] * 3), "YBR_FULL"), (ybr, "RGB"), (photo, "RGB"))
    yield (
        "colours, or another photometric interpretation than the tag's",
        COLOURED,
        [written(radiograph(pixels, PhotometricInterpretation=way, **colours)) for pixels, way in told],
    )
    yield "black for white", INVERTED, [_png(255 - frontal), _jpeg(255 - frontal), written(radiograph(255 - frontal))]
    yield "turned", TURNED, [_png(np.rot90(phantom(seed), turns)) for seed, turns in ((3, 1), (4, 2), (5, 3))]


def _png(grey: Grey) -> bytes:
    return saved(Image.fromarray(grey))


def _jpeg(grey: Grey) -> bytes:
    return saved(Image.fromarray(grey), "JPEG")


def _screenshot(words: str) -> bytes:
    screen = Image.new("RGB", (480, 320), "white")
    draw = ImageDraw.Draw(screen)
    draw.rectangle((0, 0, 480, 30), "navy")
    draw.multiline_text((20, 60), f"{words}\n" * 8, "black")
    return saved(screen)


def _in_8_bits(levels: NDArray[Any]) -> Grey:
    low, high = levels.min(), levels.max()
    return np.asarray((levels - low) * 255.0 / (high - low), np.uint8)


OTHERS = {row: (reason, files) for row, reason, files in others()}
NAMES = ["a,=1+1", 'a"\n=1+1', "a;\t=1+1", "-1+1", "@SUM(A1)", "\t=1", "\x1b[2Jx", "\u202efdp.exe", "a\r\nb", "x\x7f"]
PATHS = ["..", "../../etc/passwd", "/etc/passwd"]


@pytest.fixture(scope="module")
def answers(service: Service) -> dict[str, Line]:
    """All of it as one batch; a name in another script, with ../ and a formula, is a name."""
    both = {**CATALOGUE, **OTHERS}
    every = {f"=../胸部/{row}/{n}": data for row, (_, files) in both.items() for n, data in enumerate(files)}
    return {line.custom_id: line for line in service.wait(service.submit(every))}


@pytest.mark.parametrize("row", CATALOGUE)
def test_each_file_has_its_own_answer(answers: dict[str, Line], row: str) -> None:
    expected, files = CATALOGUE[row]
    assert len(files) >= 3
    given = [answers[f"=../胸部/{row}/{number}"] for number in range(len(files))]
    assert [line.code or str(line.state) for line in given] == [expected] * len(files)


@pytest.mark.parametrize("row", OTHERS)
def test_what_is_no_frontal_chest_x_ray_gets_its_reason_and_no_number(answers: dict[str, Line], row: str) -> None:
    reason, files = OTHERS[row]
    assert len(files) >= 3
    given = [answers[f"=../胸部/{row}/{number}"] for number in range(len(files))]
    assert {(line.state, line.label, line.probability) for line in given} == {(READ, "inconclusive", None)}
    assert all(reason in (line.reasons or ()) for line in given), [line.reasons for line in given]


@pytest.mark.parametrize("in_zip", [True, False])
def test_whatever_a_name_holds_it_is_one_cell_that_no_spreadsheet_runs(service: Service, in_zip: bool) -> None:
    names = NAMES if in_zip else PATHS
    files = {name: saved(grey_image()) for name in names}
    sent = {"content": zipped(files)} if in_zip else {"files": [("images", one) for one in files.items()]}
    headers = {"Content-Type": "application/zip"} if in_zip else {}
    batch_id = service.http.post("/v1/batches", headers=headers, **sent).json()["id"]
    assert [line.custom_id for line in service.wait(batch_id)] == names
    exported = service.http.get(f"/v1/batches/{batch_id}/results.csv").text
    rows = list(csv.DictReader(io.StringIO(exported, newline=""), strict=True))
    assert [row["custom_id"].removeprefix("'") for row in rows] == names
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_what_was_done_to_odd_pixels_is_noted(answers: dict[str, Line]) -> None:
    noted = {name: line.notes for name, line in answers.items() if line.notes}
    as_a_row = {f"=../胸部/{NOTED}/{number}": notes for number, notes in enumerate(NOTES)}
    encoded = f"=../胸部/DICOM in every encoding/{list(dicoms.EXACT).index('palette')}"
    assert noted == as_a_row | {encoded: ["palette"], "=../胸部/1 bit/1": ["palette"]}
    assert {tuple(line.notes or ()) for line in answers.values() if line.state == READ} > {()}


def test_no_bad_file_ended_a_process(answers: dict[str, Line], service: Service) -> None:
    assert answers
    log = (service.settings.home / "logs" / "worker-1.log").read_text()
    assert "Traceback" not in log
    assert service.http.get("/readyz").json()["problems"] == []
