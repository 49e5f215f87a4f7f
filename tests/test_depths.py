"""DICOM of more than 8 bits: shown by what it uses of them, unless its tags say what is white."""

from typing import Any

import numpy as np
import pytest

from tests.dicoms import CHEST, CHEST_12, radiograph
from tests.test_dicom import _of_pydicom, grey


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_stored_bits_are_spread_over_the_whole_range(bits: int) -> None:
    stored = (CHEST.astype(np.uint32) * ((1 << bits) - 1) // 255).astype(np.uint16)
    assert np.abs(grey(radiograph(stored, bits=bits)).astype(int) - CHEST).max() <= 1


@pytest.mark.parametrize("way", ["MONOCHROME2", "MONOCHROME1", "signed", "below zero", "rescaled"])
@pytest.mark.parametrize("used", [8, 10, 12, 14])
def test_fewer_bits_than_are_stored_are_not_shown_black(used: int, way: str) -> None:
    """Where neither a window nor a table says what is white, as in a PNG of 16 bits."""
    stored = CHEST.astype(int) * ((1 << used) - 1) // 255
    tags: dict[str, Any] = {}
    if way == "MONOCHROME1":
        stored, tags = (1 << used) - 1 - stored, {"PhotometricInterpretation": way}
    elif way == "rescaled":
        tags = {"RescaleSlope": "2", "RescaleIntercept": "-1024"}
    elif way == "below zero":
        stored -= 1024
    dataset = radiograph(stored.astype(np.int16 if way in {"signed", "below zero"} else np.uint16), bits=16, **tags)
    assert np.abs(grey(dataset).astype(int) - CHEST).max() <= 1


def test_fewer_bits_than_are_stored_in_colour_are_not_shown_black() -> None:
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    found = grey(radiograph(np.dstack([CHEST_12] * 3), bits=16, **colour))
    assert np.abs(found.astype(int) - CHEST).max() <= 1


def test_a_window_counts_however_few_bits_are_used() -> None:
    dataset = radiograph(CHEST_12, bits=16, WindowCenter="32768", WindowWidth="65536")
    assert grey(dataset).max() == round(4095 * 255 / 65535)


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("JPEG2000", -30, 993),  # 16 bits signed, of which it uses -30 to 245
        ("JPGExtended", 0, 1023),  # 12 bits, of which it uses 0 to 264
        ("JPEGLSNearLossless_08", 0, 255),
        ("JPEGLSNearLossless_16", 0, 65535),
    ],
)
def test_other_peoples_lossy_files_are_shown_by_the_depth_they_use(name: str, lowest: int, highest: int) -> None:
    dataset = _of_pydicom(name)
    expected = np.rint((dataset.pixel_array.astype(float) - lowest) * 255 / (highest - lowest))
    np.testing.assert_array_equal(grey(dataset), expected)
    assert np.ptp(expected) > 60
