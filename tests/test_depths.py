"""DICOM of more than 8 bits: shown by what it uses of them, unless its tags say what is white."""

from typing import Any

import numpy as np
import pytest

from tests.dicoms import CHEST, CHEST_12, radiograph, written
from tests.pictures import png
from tests.test_dicom import _of_pydicom, grey
from tests.test_door import cleaned
from worker import depths, dicom
from worker.formats import MAX_PIXELS
from worker.radiograph import decode


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
    darkest = 4 if way == "below zero" else 0  # of so many levels is one pixel in a thousand: these are black
    assert np.abs(grey(dataset).astype(int) - CHEST).max() <= 1 + darkest


@pytest.mark.parametrize("level", [65535, 20_000, 5000])
@pytest.mark.parametrize("few", [1, 80, 8000])
def test_a_burnt_in_letter_does_not_darken_the_rest(few: int, level: int) -> None:
    stored = CHEST_12.copy()
    stored.flat[:few] = level
    expected = CHEST.copy()
    expected.flat[:few] = 255
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    for dataset in (radiograph(stored, bits=16), radiograph(np.dstack([stored] * 3), bits=16, **colour)):
        assert np.abs(grey(dataset).astype(int) - expected).max() <= 1
    assert np.abs(depths.shown(stored).astype(int) - expected).max() <= 1


def test_a_burnt_in_letter_does_not_darken_a_png_in_colour() -> None:
    stored = CHEST_12.copy()
    stored[:2, :20] = 65535
    colour = decode(png(np.dstack([stored] * 3).astype(">u2"), 16, 2))
    assert np.abs(colour.astype(int) - decode(png(stored.astype(">u2"), 16, 0))).max() <= 1


@pytest.mark.parametrize("few", [-1, -32768])
def test_a_dead_pixel_below_zero_does_not_squeeze_the_rest(few: int) -> None:
    stored = CHEST_12.astype(np.int16)
    stored[0, 0] = few
    assert np.abs(grey(radiograph(stored, bits=16)).astype(int) - CHEST).max() <= 1


@pytest.mark.parametrize("last", [None, 65000, 60000])
@pytest.mark.parametrize("way", ["MONOCHROME1", "MONOCHROME2", "signed", "window"])
def test_padding_is_black_and_no_part_of_the_range(way: str, last: int | None) -> None:
    """It comes through the door, and stays black where black and white are exchanged (PS3.3, C.7.5.1.1.2)."""
    stored = CHEST_12 if way != "MONOCHROME1" else 4095 - CHEST_12
    tags: dict[str, Any] = {"PixelPaddingValue": 65535, "PhotometricInterpretation": "MONOCHROME2"}
    if way == "MONOCHROME1":
        tags["PhotometricInterpretation"] = way
    if way == "window":
        tags |= {"WindowCenter": "2048", "WindowWidth": "4096"}
    if last:
        tags["PixelPaddingRangeLimit"] = last
    stored = stored.astype(np.uint16)
    stored[:, 250:], stored[:10, 250:] = 65535, last or 65535
    if way == "signed":
        stored, tags = stored.view(np.int16), tags | {"PixelPaddingValue": -1}
        if last:
            tags["PixelPaddingRangeLimit"] = last - 65536
    data = cleaned(written(radiograph(stored, bits=16, **tags)))
    expected = CHEST.copy()
    expected[:, 250:] = 0
    assert np.abs(dicom.grey(data, max_pixels=MAX_PIXELS).astype(int) - expected).max() <= 1


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
        ("JPEG2000", -13, 242),  # 16 bits signed; it goes from -30 to 245, but one pixel in a thousand is below -13
        ("JPGExtended", 0, 255),  # 12 bits, of which it uses 8, and in two pixels more
        ("JPEGLSNearLossless_08", 0, 255),
        ("JPEGLSNearLossless_16", 0, 65535),
    ],
)
def test_other_peoples_lossy_files_are_shown_by_the_depth_they_use(name: str, lowest: int, highest: int) -> None:
    dataset = _of_pydicom(name)
    levels = (dataset.pixel_array.astype(float) - lowest) * 255 / (highest - lowest)
    expected = np.rint(levels.clip(0, 255))
    np.testing.assert_array_equal(grey(dataset), expected)
    assert np.ptp(expected) > 60
