"""A PNG whose pixels are damaged is never judged: Pillow would paint what is missing black, and asks no checksum."""

import io
import struct
import tracemalloc
import zlib
from itertools import product

import pytest
from PIL import Image

from tests.pictures import EXACT, chunk
from tests.test_door import rejection as at_the_door
from tests.test_radiograph import rejection
from worker import chunks
from worker.rejection import ImageRejected

DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
FOUND = {("truncated", "truncated"), ("truncated", "too_large")}
KINDS = [(depth, colour) for colour, depths in DEPTHS.items() for depth in depths]


def header(*values: int) -> bytes:
    """The signature and the first chunk; the values are those of chunks.HEADER."""
    *size, interlaced = values
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBxxB", *size, interlaced))


def file(head: bytes, *compressed: bytes) -> bytes:
    return head + b"".join(chunk(b"IDAT", part) for part in compressed) + chunk(b"IEND", b"")


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("kind", EXACT)
def test_rows_that_are_missing_are_truncated_in_every_kind_of_png(kind: str, rows: int) -> None:
    data = EXACT[kind]()
    width, height, *others = chunks.HEADER.unpack_from(data)
    assert rejection(header(width, height + rows, *others) + data[33:]) == "truncated"


@pytest.mark.parametrize("interlaced", [False, True])
def test_as_many_bytes_are_asked_for_as_pillow_reads(*, interlaced: bool) -> None:
    for (depth, colour), width, height in product(KINDS, range(1, 10), range(1, 10)):
        head = header(width, height, depth, colour, interlaced)
        size = chunks._size(width, height, depth, colour, interlaced)
        whole, shorter = (file(head, zlib.compress(bytes(length))) for length in (size, size - 1))
        chunks.check_pixels(whole)
        Image.open(io.BytesIO(whole)).load()
        with pytest.raises(ImageRejected, match="fewer pixels"):
            chunks.check_pixels(shorter)
        with pytest.raises(OSError, match="truncated"):
            Image.open(io.BytesIO(shorter)).load()


def test_pixels_are_whole_however_they_are_cut_and_whatever_stands_behind_them() -> None:
    pixels = zlib.compress(bytes(513 * 512))
    for parts in (
        [pixels[:1], pixels[1:2], b"", pixels[2:99], pixels[99:]],
        [pixels + b"more", b"more"],
        [pixels[:-4]],
    ):
        chunks.check_pixels(file(header(512, 512, 8, 0, 0), *parts))


def test_pixels_are_counted_in_little_memory() -> None:
    packed = zlib.compress(bytes(50_000_000), 1)
    data = file(header(10_000, 10_000, 8, 0, 0), packed)
    tracemalloc.start()
    try:
        with pytest.raises(ImageRejected, match="fewer pixels"):
            chunks.check_pixels(data)
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("kind", EXACT)
def test_one_wrong_bit_anywhere_in_the_pixels_is_found_at_the_door_and_by_the_decoder(kind: str, bit: int) -> None:
    data = EXACT[kind]()
    begins, ends = data.index(b"IDAT"), data.index(b"IEND") - 4
    for place in [*range(12, 33), *range(begins, ends, (ends - begins) // 40), ends - 1]:
        wrong = bytearray(data)
        wrong[place] ^= 1 << bit
        assert (at_the_door(bytes(wrong)), rejection(bytes(wrong))) in FOUND, place
