"""Bad input of every kind through the real service, in one batch: each file has its own answer."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import (
    MPEG2MPML,
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    SMPTEST211020UncompressedProgressiveActiveVideo,
)

from db.batches import Line
from tests import dicoms, pictures
from tests.dicoms import CHEST, NAME, encapsulated, radiograph, written
from tests.pictures import chest, chunk, grey_image, png, saved
from tests.service import Service

PNG = b"\x89PNG\r\n\x1a\n"
READ = "classified"
NOTED = "palette, 1 bit, alpha, CMYK"
NOTES = ["palette"], ["bilevel"], ["alpha"], ["alpha"], ["cmyk"], ["palette"], ["palette", "alpha"]


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
    yield "truncated", "truncated", [b"", jpeg[: len(jpeg) // 2], grey[:-12], grey[:200], dicom[:-900], dicom[:200]]
    tiff, gif, bitmap = (saved(grey_image(), kind) for kind in ("TIFF", "GIF", "BMP"))
    yield "other types", "unsupported_type", [tiff, gif, bitmap, b"%PDF-1.7", b"MZ" + bytes(500), b"<html>"]
    asking = radiograph(Rows=65535, Columns=65535, PixelData=bytes(8))
    huge = [header(10_001, 10_000), header(2**31 - 1, 2**31 - 1), jpeg_header(65_000, 65_000), written(asking)]
    yield "more than 100 megapixels by the header", "too_large", huge
    deep = [png(grey_16, 16, 0), png(grey_16 >> 4, 16, 0), png(np.dstack([grey_16] * 3), 16, 2)]
    yield "16-bit PNG", READ, deep
    odd = [saved(grey_image().convert(mode)) for mode in ("P", "1", "RGBA")] + [saved(alpha)]
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


@pytest.fixture(scope="module")
def answers(service: Service) -> dict[str, Line]:
    """All of it as one batch; a name in another script, with ../ and a formula, is a name."""
    every = {f"=../胸部/{row}/{n}": data for row, (_, files) in CATALOGUE.items() for n, data in enumerate(files)}
    return {line.custom_id: line for line in service.wait(service.submit(every))}


@pytest.mark.parametrize("row", CATALOGUE)
def test_each_file_has_its_own_answer(answers: dict[str, Line], row: str) -> None:
    expected, files = CATALOGUE[row]
    assert len(files) >= 3
    given = [answers[f"=../胸部/{row}/{number}"] for number in range(len(files))]
    assert [line.code or str(line.state) for line in given] == [expected] * len(files)


def test_what_was_done_to_odd_pixels_is_noted(answers: dict[str, Line]) -> None:
    noted = {name: line.notes for name, line in answers.items() if line.notes}
    as_a_row = {f"=../胸部/{NOTED}/{number}": notes for number, notes in enumerate(NOTES)}
    encoded = f"=../胸部/DICOM in every encoding/{list(dicoms.EXACT).index('palette')}"
    assert noted == as_a_row | {encoded: ["palette"]}
    assert {tuple(line.notes or ()) for line in answers.values() if line.state == READ} > {()}


def test_no_bad_file_ended_a_process(answers: dict[str, Line], service: Service) -> None:
    assert answers
    log = (service.settings.home / "logs" / "worker-1.log").read_text()
    assert "Traceback" not in log
    assert service.http.get("/readyz").json()["problems"] == []
