"""From bytes to grey levels: every kind of PNG and JPEG, whole, cut and garbled."""

import io
import resource
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.examples import fuzzed
from tests.pictures import CHEST, EXACT, _levels, chest, chunk, grey_image, png, saved
from tests.project import ORIGINALS, needs_originals
from worker import jpegs, radiograph
from worker.radiograph import SIZE, decode
from worker.rejection import ImageRejected


def rejection(data: bytes) -> str:
    with pytest.raises(ImageRejected) as caught:
        decode(data)
    return caught.value.code


@pytest.mark.parametrize("kind", EXACT)
def test_every_kind_of_png_gives_the_same_levels(kind: str) -> None:
    expected = np.asarray(grey_image().resize((SIZE, SIZE), Image.Resampling.BILINEAR, reducing_gap=2.0))
    assert np.abs(decode(EXACT[kind]()).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_spread_over_the_whole_range(bits: int) -> None:
    found = decode(png(_levels(bits), bits, 0))
    assert (found.min(), found.max()) == (0, 255)
    step = 255 / ((1 << bits) - 1)
    assert abs(float(found.mean()) - float((CHEST >> (8 - bits)).mean() * step)) < 1


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_than_16_bits_in_16_are_not_shown_black(bits: int, colour: int, channels: int) -> None:
    stored = np.dstack([CHEST.astype(np.uint32) * ((1 << bits) - 1) // 255] * channels)
    if colour in {4, 6}:
        stored[..., -1] = 65535
    for interlaced in (False, True):
        found = decode(png(stored.astype(">u2"), 16, colour, interlaced=interlaced))
        assert np.abs(found.astype(int) - decode(saved(grey_image()))).max() <= 1


def test_what_is_transparent_in_few_of_16_bits_is_black() -> None:
    alpha = np.where(np.arange(CHEST.shape[1]) < CHEST.shape[1] // 2, 0, 65535)
    stored = np.dstack([np.full(CHEST.shape, 4095), np.broadcast_to(alpha, CHEST.shape)])
    found = decode(png(stored.astype(">u2"), 16, 4))
    assert (found[:, : SIZE // 2 - 2].max(), found[:, SIZE // 2 + 2 :].min()) == (0, 255)


def test_what_is_transparent_is_black() -> None:
    alpha = np.where(np.arange(CHEST.shape[1]) < CHEST.shape[1] // 2, 0, 255).astype(np.uint8)
    image = Image.fromarray(np.dstack([np.full_like(CHEST, 200), np.broadcast_to(alpha, CHEST.shape)]))
    for mode in ("LA", "RGBA"):
        found = decode(saved(image.convert(mode)))
        assert found[:, : SIZE // 2 - 2].max() == 0
        assert found[:, SIZE // 2 + 2 :].min() == 200


@pytest.mark.parametrize("colour", [0, 2])
def test_the_transparent_colour_of_a_png_is_black(colour: int) -> None:
    pixels = np.full_like(CHEST, 90)
    pixels[:, : SIZE * 2] = 200
    stored, transparent = (pixels, [200]) if colour == 0 else (np.dstack([pixels] * 3), [200] * 3)
    found = decode(png(stored, 8, colour, (b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))))
    assert (found[:, 0].max(), found[:, -1].min()) == (0, 90)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_in_every_colour_space_gives_the_same_levels(mode: str, progressive: bool) -> None:
    found = decode(saved(grey_image().convert("RGB").convert(mode), "JPEG", quality=95, progressive=progressive))
    difference = np.abs(found.astype(int) - decode(saved(grey_image())))
    assert difference.mean() < 2


def test_garbage_behind_a_jpeg_does_no_harm() -> None:
    data = saved(grey_image(), "JPEG")
    np.testing.assert_array_equal(decode(data + b"\0garbage" * 100), decode(data))


def _turned(orientation: int, image: Image.Image) -> Image.Image:
    """The pixels as a camera stores them that says `orientation`."""
    undo: dict[int, Image.Transpose] = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return image.transpose(undo[orientation]) if orientation in undo else image


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations_are_alike(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind == "JPEG" else {}
    found = decode(saved(_turned(orientation, grey_image()), kind, exif=exif, **options))
    upright = decode(saved(grey_image(), kind, **options))
    assert np.abs(found.astype(int) - upright).max() <= (1 if kind == "PNG" else 3)


def test_an_orientation_behind_the_pixels_or_in_a_text_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    plain = saved(_turned(3, grey_image()))
    behind = plain[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + plain[-12:]
    packet = PngInfo()
    packet.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta tiff:Orientation="3"/>')
    profile = PngInfo()
    raw = exif.tobytes().hex()
    profile.add_text("Raw profile type exif", f"\nexif\n{len(raw) // 2:8}\n{raw}\n", zip=True)
    for data in (
        behind,
        saved(_turned(3, grey_image()), pnginfo=packet),
        saved(_turned(3, grey_image()), pnginfo=profile),
    ):
        assert np.abs(decode(data).astype(int) - decode(saved(grey_image()))).max() <= 1


@needs_originals
def test_rust_and_pillow_see_the_same_pixels() -> None:
    originals = sorted(ORIGINALS.glob("*.png"))
    assert originals
    for path in originals:
        data = path.read_bytes()
        np.testing.assert_array_equal(decode(data), radiograph._decode_with_pillow(data)[0], path.name)


def test_a_png_cut_anywhere_is_truncated() -> None:
    data = saved(Image.fromarray(chest(40)), pnginfo=_text())
    assert {rejection(data[:length]) for length in range(8, len(data))} == {"truncated"}


def _text() -> PngInfo:
    text = PngInfo()
    text.add_text("Comment", "IDAT IEND tRNS")
    return text


def test_names_of_chunks_inside_a_text_mislead_nobody() -> None:
    np.testing.assert_array_equal(decode(saved(grey_image(), pnginfo=_text())), decode(saved(grey_image())))


@pytest.mark.parametrize("progressive", [False, True])
def test_half_a_jpeg_is_truncated(progressive: bool) -> None:
    data = saved(grey_image(), "JPEG", progressive=progressive)
    for length in (*range(3, len(data) - 2, 97), len(data) - 2, len(data) - 1):
        assert rejection(data[:length]) == "truncated", length
    assert rejection(data[:-2] + bytes(50)) == "truncated"  # as a file system fills a file that it lost the end of


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_with_a_hole_in_its_pixels_is_truncated(mode: str, progressive: bool) -> None:
    data = saved(grey_image().resize((640, 512)).convert(mode), "JPEG", progressive=progressive)
    start, length = data.rindex(b"\xff\xda") + 20, len(data) // 10
    for hole in range(start, len(data) - length - 2, length):
        assert rejection(data[:hole] + bytes(length) + data[hole + length :]) == "truncated", hole
    assert rejection(data[: len(data) * 4 // 5] + b"\xff\xd9") == "truncated"


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [(3, 3), (3000, 3), (511, 300), (1023, 767), (1600, 1200)])
def test_a_jpeg_has_the_pixels_that_pillow_sees(mode: str, size: tuple[int, int]) -> None:
    data = saved(grey_image().resize(size).convert(mode), "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        image.draft("L", (2 * SIZE, 2 * SIZE))
        np.testing.assert_array_equal(jpegs.grey(data, *image.size), np.asarray(image.convert("L")))


def test_an_empty_file_is_truncated() -> None:
    assert rejection(b"") == "truncated"


@pytest.mark.parametrize(
    "data",
    [b"not an image", b"GIF89a" + bytes(50), b"BM" + bytes(100), b"%PDF-1.7", b"PK\x03\x04", bytes(4096), b"II*\0"],
)
def test_other_files_are_of_an_unsupported_type(data: bytes) -> None:
    assert rejection(data) == "unsupported_type"


def test_a_renamed_tiff_behind_a_png_signature_is_rejected() -> None:
    assert rejection(b"\x89PNG\r\n\x1a\n" + saved(grey_image(), "TIFF")) in {"truncated", "too_large"}


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_png_of_too_many_pixels_is_rejected_by_its_header(width: int, height: int) -> None:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )
    assert _without_allocating(data) == "too_large"


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (65_000, 65_000)])
def test_a_jpeg_of_too_many_pixels_is_rejected_by_its_header(width: int, height: int) -> None:
    data = bytearray(saved(Image.fromarray(chest(16)), "JPEG"))
    frame = data.index(b"\xff\xc0") + 5
    data[frame : frame + 4] = struct.pack(">HH", height, width)
    assert _without_allocating(bytes(data)) == "too_large"


def _without_allocating(data: bytes) -> str:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code = rejection(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB
    return code


@pytest.mark.parametrize("kind", ["PNG", "MPO"])
def test_several_frames_are_rejected(kind: str) -> None:
    frames = [Image.fromarray(np.full((32, 32), level, np.uint8)).convert("RGB") for level in (10, 200)]
    assert rejection(saved(frames[0], kind, save_all=True, append_images=frames[1:])) == "multi_frame"


def test_no_pixels_are_truncated() -> None:
    header = struct.pack(">IIBBBBB", 0, 7, 8, 0, 0, 0, 0)
    assert rejection(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")) == "truncated"


def test_a_large_radiograph_is_decoded_by_pillow_to_the_same_levels() -> None:
    large = np.kron(chest(410), np.ones((10, 10), np.uint8))  # 16.8 megapixels: not in Rust
    difference = np.abs(
        decode(saved(Image.fromarray(large), compress_level=1)).astype(int) - decode(saved(grey_image()))
    )
    assert difference.max() <= 3


SMALL = {
    "grey": saved(Image.fromarray(chest(24))),
    "RGB": saved(Image.fromarray(chest(24)).convert("RGB")),
    "palette": saved(Image.fromarray(chest(24)).convert("P"), pnginfo=_text(), exif=Image.Exif()),
    "JPEG": saved(Image.fromarray(chest(24)), "JPEG"),
    "progressive": saved(Image.fromarray(chest(24)).convert("RGB"), "JPEG", progressive=True, exif=b"Exif\0\0II*\0"),
}


@fuzzed(400)
@given(
    kind=st.sampled_from(sorted(SMALL)),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    mend=st.booleans(),
)
def test_garbled_files_are_decoded_or_rejected_and_nothing_else(
    kind: str, edits: list[tuple[float, int]], mend: bool
) -> None:
    data = bytearray(SMALL[kind])
    for place, value in edits:
        data[int(place * len(data))] = value
    garbled = _mended(bytes(data)) if mend else bytes(data)
    try:
        grey = decode(garbled)
    except ImageRejected:
        return
    assert grey.shape == (SIZE, SIZE)
    assert grey.dtype == np.uint8


def _mended(data: bytes) -> bytes:
    """With right check sums, so that the damage gets past them."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    mended, at = data[:8], 8
    while at + 8 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        if at + 12 + length > len(data):
            return mended + data[at:]
        mended += chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length])
        at += 12 + length
    return mended + data[at:]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_that_is_decoded_small_stands_where_its_png_does(orientation: int) -> None:
    """Of odd size: at a half its last row and column are half padding, at whichever side Exif turns them to."""
    y, x = np.mgrid[0:615, 0:685]
    whole = np.uint8(127 + 60 * np.sin(x / 9) * np.cos(y / 7))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = _turned(orientation, Image.fromarray(whole))
    jpeg = decode(saved(stored, "JPEG", quality=95, exif=exif)).astype(int)
    difference = np.abs(jpeg - decode(saved(Image.fromarray(whole))))
    assert difference[2:-2, 2:-2].max() <= 2
    assert difference.mean() <= 0.6
