"""A compressed image that lacks a part and ends properly all the same: decoders paint over it and say nothing."""

import io
import struct
from functools import partial

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import get_frame
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from tests.dicoms import CHEST, compressed, encapsulated, jpeg, radiograph, written
from tests.pictures import grey_image, saved
from tests.project import ORIGINALS, needs_originals
from tests.test_dicom import rejection
from worker import frames, jpegs
from worker.radiograph import decode
from worker.rejection import ImageRejected

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
    with pytest.raises(ImageRejected, match="more tiles"):
        frames.check_tiles(bytes(whole))


def whole_frame() -> bytearray:
    noisy = np.random.default_rng(1).integers(0, 256, CHEST.shape, np.uint8)
    return bytearray(get_frame(compressed(JPEG2000Lossless, radiograph(noisy)).PixelData, 0, number_of_frames=1))


def test_a_block_that_nobody_wrote_is_found_in_a_jpeg_2000() -> None:
    frame = whole_frame()
    frames.check_tiles(bytes(frame))
    frame[20_000:22_048] = bytes(2048)
    assert rejection(of_jpeg_2000(bytes(frame))) == "truncated"


@pytest.mark.parametrize("told_in", ["first", "last", "every"])
def test_a_jpeg_2000_without_the_later_parts_of_a_tile_is_truncated(told_in: str) -> None:
    """A tile cut into parts, one for each resolution say: without the last ones it is a blurred chest."""
    frame = whole_frame()
    frame = frame[: frame.rindex(END) + 2]
    begin, end, cut = frame.index(TILE), len(frame) - 2, 30_000
    assert frame[begin + 10 : begin + 12] == bytes([0, 1])
    counts = {"first": (2, 0), "last": (0, 2), "every": (2, 2)}[told_in]

    def part(number: int, body: bytes) -> bytes:
        header = struct.pack(">HHHIBB", 0xFF90, 10, 0, 12 + len(body), number, counts[number])
        return header + body

    first = part(0, bytes(frame[begin + 12 : cut]))
    second = part(1, b"\xff\x93" + bytes(frame[cut:end]))
    both = bytes(frame[:begin]) + first + second + END
    np.testing.assert_array_equal(decode(of_jpeg_2000(both)), decode(of_jpeg_2000(bytes(frame))))
    if told_in != "last":
        assert rejection(of_jpeg_2000(bytes(frame[:begin]) + first + END)) == "truncated"
    assert rejection(of_jpeg_2000(bytes(frame[:begin]) + second + END)) == "truncated"


@pytest.mark.parametrize("parameters", [b"\0\0\0", b"\1\x3f\0", b"\0\x3f\1", b"\0\x3f\x11"])
def test_what_a_baseline_jpeg_tells_of_coefficients_means_nothing(parameters: bytes) -> None:
    """Decoders do not look at it either (ITU-T T.81, table B.3, where it is always the same)."""
    whole = jpeg(CHEST)
    place = whole.index(SCAN) + 4 + 3
    careless = whole[:place] + parameters + whole[place + 3 :]
    np.testing.assert_array_equal(decode(careless), decode(whole))
