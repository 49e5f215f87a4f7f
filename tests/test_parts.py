"""A compressed image that lacks a part and ends properly all the same: decoders paint over it and say nothing."""

import io
from functools import partial

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import get_frame
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from tests.dicoms import CHEST, compressed, encapsulated, radiograph, written
from tests.pictures import grey_image, saved
from tests.project import ORIGINALS, needs_originals
from tests.test_dicom import rejection
from worker import frames, jpegs
from worker.radiograph import decode

SCAN, END, TILE = b"\xff\xda", b"\xff\xd9", b"\xff\x90"
in_dicom = partial(encapsulated, JPEGBaseline8Bit)


def starts(data: bytes, marker: bytes) -> list[int]:
    return [place for place in range(len(data)) if data.startswith(marker, place)]


def _progressive(mode: str) -> bytes:
    return saved(Image.fromarray(CHEST).convert(mode), "JPEG", quality=95, progressive=True)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_progressive_jpeg_without_its_last_scans_is_truncated(mode: str) -> None:
    whole = _progressive(mode)
    scans = starts(whole, SCAN)
    assert len(scans) > 3
    decode(whole)
    for place in scans[1:]:
        assert rejection(whole[:place] + END) == "truncated"
        if mode == "L":
            assert rejection(in_dicom(whole[:place] + END)) == "truncated"


@pytest.mark.parametrize("left_out", range(6))
def test_nor_without_one_in_the_middle(left_out: int) -> None:
    whole = _progressive("L")
    scans = [*starts(whole, SCAN), whole.rindex(END)]
    begin, end = scans[left_out], scans[left_out + 1]
    assert rejection(whole[:begin] + whole[end:]) == "truncated"


@needs_originals
def test_no_published_jpeg_lacks_a_scan() -> None:
    paths = [path for path in sorted(ORIGINALS.glob("*.jp*g")) if path.read_bytes().startswith(b"\xff\xd8")]
    assert paths
    for path in paths:
        jpegs.check_scans(path.read_bytes())


def tiled() -> bytes:
    buffer = io.BytesIO()
    grey_image().resize((320, 256)).save(buffer, "JPEG2000", tile_size=(64, 64), no_jp2=True)
    return buffer.getvalue()


def of_jpeg_2000(frame: bytes) -> bytes:
    return written(encapsulated(JPEG2000Lossless, frame))


def test_a_jpeg_2000_without_one_of_its_tiles_is_truncated() -> None:
    whole = tiled()
    places = [*starts(whole, TILE), len(whole) - 2]
    assert len(places) == 21
    decode(of_jpeg_2000(whole))
    for begin, end in (places[0:2], places[10:12], places[19:21], (places[15], places[20])):
        assert rejection(of_jpeg_2000(whole[:begin] + whole[end:])) == "truncated"


def test_more_tiles_than_can_be_numbered_are_not_counted() -> None:
    whole = bytearray(tiled())
    size = whole.index(b"\xff\x51")
    whole[size + 22 : size + 30] = bytes([0, 0, 0, 1]) * 2
    assert rejection(of_jpeg_2000(bytes(whole))) == "truncated"


def test_a_block_that_nobody_wrote_is_found_in_a_jpeg_2000() -> None:
    noisy = np.random.default_rng(1).integers(0, 256, CHEST.shape, np.uint8)
    frame = bytearray(get_frame(compressed(JPEG2000Lossless, radiograph(noisy)).PixelData, 0, number_of_frames=1))
    frames.check_tiles(bytes(frame))
    frame[20_000:24_096] = bytes(4096)
    assert rejection(of_jpeg_2000(bytes(frame))) == "truncated"
