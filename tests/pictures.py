"""PNG and JPEG files made by code: one phantom in every encoding."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.radiograph import Grey


def chest(size: int = 512) -> Grey:
    """A smooth phantom with every grey level, different in each corner, so that a rotation shows."""
    y, x = np.mgrid[0:size, 0:size] / (size - 1)
    return np.asarray((0.7 * x + 0.3 * y * y) * 255, dtype=np.uint8)


CHEST = chest()


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(pixels: NDArray[Any], depth: int, colour: int, *extra: tuple[bytes, bytes], interlaced: bool = False) -> bytes:
    """A PNG made by hand, of what Pillow does not write: rows are given as bytes."""
    height, width = pixels.shape[0], pixels.shape[1] * max(1, 8 // depth)
    rows = pixels.reshape(height, -1)
    lines = (
        b"".join(b"\0" + row.tobytes() for offsets in _ADAM7 for row in _every(rows, width, *offsets))
        if interlaced
        else b"".join(b"\0" + row.tobytes() for row in rows)
    )
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in chunks)


_ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def _every(rows: NDArray[Any], width: int, *offsets: int) -> NDArray[Any]:
    height, (y, x, dy, dx) = len(rows), offsets
    return rows.reshape(height, width, -1)[y::dy, x::dx].reshape(len(range(y, height, dy)), -1)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def grey_image() -> Image.Image:
    return Image.fromarray(CHEST)


def _levels(bits: int) -> Grey:
    """The phantom with so few levels, packed as PNG stores them."""
    each = CHEST >> (8 - bits)
    per_byte = 8 // bits
    packed = np.zeros((CHEST.shape[0], CHEST.shape[1] // per_byte), np.uint8)
    for place in range(per_byte):
        packed |= each[:, place::per_byte] << (8 - bits * (place + 1))
    return packed


EXACT: dict[str, Callable[[], bytes]] = {
    "8-bit grey": lambda: saved(grey_image()),
    "8-bit grey made by hand": lambda: png(CHEST, 8, 0),
    "interlaced grey": lambda: png(CHEST, 8, 0, interlaced=True),
    "interlaced RGB": lambda: png(np.dstack([CHEST] * 3), 8, 2, interlaced=True),
    "16-bit grey": lambda: png((CHEST.astype(">u2") * 257).astype(">u2"), 16, 0),
    "16-bit RGB": lambda: png(np.dstack([CHEST.astype(">u2") * 257] * 3).astype(">u2"), 16, 2),
    "16-bit grey and alpha": lambda: png(
        np.dstack([CHEST.astype(">u2") * 257, np.full(CHEST.shape, 65535)]).astype(">u2"), 16, 4
    ),
    "RGB": lambda: saved(grey_image().convert("RGB")),
    "RGBA": lambda: saved(grey_image().convert("RGBA")),
    "grey and alpha": lambda: saved(grey_image().convert("LA")),
    "palette of greys": lambda: saved(grey_image().convert("P")),
    "palette in reverse": lambda: png(
        255 - CHEST, 8, 3, (b"PLTE", bytes(level for grey in range(255, -1, -1) for level in [grey] * 3))
    ),
    "gamma and a text": lambda: png(CHEST, 8, 0, (b"gAMA", struct.pack(">I", 45455)), (b"tEXt", b"Software\0made")),
    "garbage behind the end": lambda: saved(grey_image()) + b"\0garbage" * 100,
}
