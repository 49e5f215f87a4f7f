"""Decoding a PNG to its pixels: the product's decoder against Pillow, on the shared originals."""

import io
import statistics
import time
from collections.abc import Callable

import numpy as np
from kornia_rs.io import decode_image_png_u8
from numpy.typing import NDArray
from PIL import Image

from benchmarks.images import originals

_ROUNDS = 5
Grey = NDArray[np.uint8]


def figure() -> None:
    files = [path.read_bytes() for path in originals() if path.suffix == ".png"]
    greys = [data for data in files if Image.open(io.BytesIO(data)).mode == "L"]
    if not all(np.array_equal(_rust(data), _pillow(data)) for data in greys):
        raise AssertionError("the two decoders give different pixels")
    ratios = [_seconds(_pillow, greys) / _seconds(_rust, greys) for _ in range(_ROUNDS)]
    print(f"PNG decoding, Pillow / ours: {statistics.median(ratios):.1f} (identical pixels, {len(greys)} files)")


def _rust(data: bytes) -> Grey:
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    return np.asarray(decode_image_png_u8(data, (height, width), "mono"))[..., 0]


def _pillow(data: bytes) -> Grey:
    return np.asarray(Image.open(io.BytesIO(data)))


def _seconds(decode: Callable[[bytes], Grey], files: list[bytes]) -> float:
    start = time.perf_counter()
    for data in files:
        decode(data)
    return time.perf_counter() - start
