"""From the bytes of a file to what the model sees; serving and training use these same two functions."""

import io
from collections.abc import Iterator
from typing import Final

import numpy as np
from kornia_rs.io import decode_image_png_u8
from numpy.typing import NDArray
from PIL import Image, ImageOps

from worker import chunks, depths, jpegs
from worker.formats import DICOM, MAGIC_BYTES, MAX_PIXELS, PNG, check_pixels, media_type
from worker.rejection import ALPHA, CMYK, FEW_LEVELS, PALETTE, ImageRejected, damage_rejected

SIZE: Final = 128
"""Edge of the square that the model sees, in pixels."""

PREPROCESSING: Final = "grey128-1"
"""Version of `decode` and `prepare` together; it stands in every result and with every set of weights."""

DECODING: Final = "decode-3"
"""Version of what `decode` makes of the same bytes; in every result, since PREPROCESSING stays as long as its weights serve."""

_GREY, _RGB = 0, 2  # PNG colour types
# Several frames, transparency, and what Pillow reads the orientation from: all of it is lost on kornia-rs.
_MORE_THAN_PIXELS = {b"acTL", b"tRNS", b"eXIf", b"iTXt"}
_MORE_THAN_TEXT = b"Raw profile type"  # ImageMagick's place for Exif
# Rust ends the process where memory is short; above this, Pillow, which raises MemoryError.
_MAX_PIXELS_IN_RUST = 16_000_000

# So many levels hold 0.58 at most of the 1,260 radiographs of the data, and all of one with 4 bits.
_SOME, _FEW, _NEARLY_ALL = 64, 16, 0.9

_ORIENTATION = 0x0112  # the Exif tag

Grey = NDArray[np.uint8]

BLANK: Final = np.zeros((SIZE, SIZE), np.uint8)

Image.MAX_IMAGE_PIXELS = None  # check_pixels asks, by the header, with the limit that was set


def decode(data: bytes) -> Grey:
    """Return the radiograph as (SIZE, SIZE) grey levels 0-255, or raise ImageRejected."""
    return decode_noting(data)[0]


def decode_noting(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[Grey, tuple[str, ...]]:
    """As `decode`, with those of REASONS and NOTES beside that its pixels show; others are told by a DICOM file's tags."""
    if not data:
        raise ImageRejected("truncated", "the file is empty")
    kind = media_type(data[:MAGIC_BYTES])
    if kind is None:
        raise ImageRejected("unsupported_type", "not a PNG, JPEG or DICOM file")
    with damage_rejected():
        if kind == PNG:
            return _decode_png(data, max_pixels)
        if kind == DICOM:
            from worker import dicom  # noqa: PLC0415 - pydicom costs 40 MB and most batches hold none

            grey, marks = dicom.shown(data, max_pixels=max_pixels)
            return _shrunk(Image.fromarray(grey), marks)
        return _decode_with_pillow(data, max_pixels)


def prepare(grey: Grey) -> Grey:
    """Return the model's input, (SIZE, SIZE, 1) uint8; scaling to 0-1 is the model's first layer."""
    return grey[..., np.newaxis]


def _decode_png(data: bytes, max_pixels: int) -> tuple[Grey, tuple[str, ...]]:
    """Decode the two common kinds of PNG in Rust, 2.5 times as fast as Pillow and to the same pixels."""
    if len(data) < chunks.HEADER.size:
        raise ImageRejected("truncated", "the file ends inside its header")
    width, height, depth, colour, interlaced = chunks.HEADER.unpack_from(data)
    check_pixels(width, height, most=max_pixels)
    plain = depth == 8 and colour in {_GREY, _RGB} and not interlaced  # noqa: PLR2004 - bits
    if _png_is_special(data) or not plain or width * height > _MAX_PIXELS_IN_RUST:
        return _decode_with_pillow(data, max_pixels)
    try:
        mode = "mono" if colour == _GREY else "rgb"
        pixels = decode_image_png_u8(data, (height, width), mode)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - kornia-rs raises plain Exception, or panics; Pillow says what is wrong
        return _decode_with_pillow(data, max_pixels)
    return _shrunk(Image.fromarray(pixels[..., 0] if colour == _GREY else pixels).convert("L"))


def _png_is_special(data: bytes) -> bool:
    """Tell whether there is more to it than pixels; raise ImageRejected where the end is missing.

    Both decoders stop at the last pixel, so only this finds that the file was cut off behind it.
    """
    names = chunks.names(data)
    return bool(names & _MORE_THAN_PIXELS or (names & {b"tEXt", b"zTXt"} and _MORE_THAN_TEXT in data))


def _decode_with_pillow(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[Grey, tuple[str, ...]]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            check_pixels(*image.size, most=max_pixels)
            if getattr(image, "n_frames", 1) > 1:
                raise ImageRejected("multi_frame", "more than one frame in one file")
            whole, stored = image.size, depths.stored(image)
            # JPEG can be decoded at a half, a quarter or an eighth, still twice as large as is needed.
            image.draft("L", (2 * SIZE, 2 * SIZE))
            beyond = _beyond(whole, image.size)
            orientation = image.getexif().get(_ORIENTATION, 1)  # it may read the pixels to find it
            grey = _of_jpeg(image, data) if image.format == "JPEG" else _of_png(image, data, stored)
            upright = _upright(grey, orientation)
            return _shrunk(upright, tuple(_notes(image)), _filled(upright.size, beyond, orientation))
    except OSError as error:
        if "out of memory" in str(error):  # Pillow's C code has no other word for it
            raise MemoryError from error
        raise


def _of_jpeg(image: Image.Image, data: bytes) -> Image.Image:
    levels = jpegs.grey(data, *image.size)
    return _to_grey(image) if levels is None else Image.fromarray(levels)


def _of_png(image: Image.Image, data: bytes, stored: str) -> Image.Image:
    chunks.check_pixels(data)  # Pillow would paint what is missing black, and asks no checksum; kornia-rs raises
    return _to_grey(depths.deepened(image, data, stored))


def _notes(image: Image.Image) -> Iterator[str]:
    if image.mode in {"P", "PA"}:
        yield PALETTE
    if image.mode in {"PA", "LA", "RGBA"} or ("transparency" in image.info and not _is_deep(image)):
        yield ALPHA
    if image.mode == "CMYK":
        yield CMYK


def _to_grey(image: Image.Image) -> Image.Image:
    if image.mode == "L" and "transparency" not in image.info:
        return image
    if _is_deep(image):
        return Image.fromarray(depths.shown(np.asarray(image)))
    if image.mode in {"P", "PA", "LA", "RGBA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba).convert("L")
    if image.mode == "CMYK":
        return image.convert("RGB").convert("L")
    return image.convert("L")


def _is_deep(image: Image.Image) -> bool:
    """More than 8 bits; a transparent colour in it is not looked at."""
    return image.mode.startswith("I") or image.mode == "F"


def _beyond(whole: tuple[int, int], small: tuple[int, int]) -> tuple[float, float]:
    """By what part of a pixel a JPEG that was decoded small reaches beyond the picture, on the right and below.

    685 pixels are 343 at a half: the last of them is half padding, and all would stand a little too far to the left.
    """
    part = max(1, round(whole[0] / small[0]))
    return small[0] - whole[0] / part, small[1] - whole[1] / part


def _filled(size: tuple[int, int], beyond: tuple[float, float], orientation: int) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of what the picture itself fills, once it stands upright."""
    across, down = beyond if orientation in {1, 2, 3, 4} else beyond[::-1]
    left = across if orientation in {2, 3, 6, 7} else 0.0
    top = down if orientation in {3, 4, 7, 8} else 0.0
    return left, top, left + size[0] - across, top + size[1] - down


def _shrunk(
    image: Image.Image, marks: tuple[str, ...] = (), box: tuple[float, float, float, float] | None = None
) -> tuple[Grey, tuple[str, ...]]:
    """What the model sees of the whole picture; FEW_LEVELS is told of that alone, for shrinking makes new ones."""
    some = sorted(image.resize((_SOME, _SOME), Image.Resampling.NEAREST).histogram(), reverse=True)
    if some[0] < _SOME**2 and sum(some[:_FEW]) > _NEARLY_ALL * _SOME**2:  # one level alone is a blank picture
        marks = (*marks, FEW_LEVELS)
    # reducing_gap=2: first by whole-number boxes to twice the size, then properly.
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)), marks


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turned before it is shrunk, so that every orientation gives the same pixels."""
    if orientation == 1:
        return image
    turned = Image.fromarray(np.asarray(image))
    turned.getexif()[_ORIENTATION] = orientation
    return ImageOps.exif_transpose(turned)
