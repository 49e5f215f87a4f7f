"""A DICOM file whose tags and pixels disagree, about sizes, depths or colours, is never read as if they did not."""

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from tests.dicoms import CHEST, CHEST_12, _lut, compressed, encapsulated, jpeg, radiograph, written
from tests.test_dicom import grey, rejection
from tests.test_door import cleaned
from tests.test_door import rejection as at_the_door
from worker import dicom
from worker.formats import MAX_PIXELS


@pytest.mark.parametrize(
    ("columns", "code"),
    [(319, "truncated"), (316, "truncated"), (160, "multi_frame"), (256, "truncated")],
)
def test_rows_longer_than_the_tags_tell_are_never_read_as_stripes(columns: int, code: str) -> None:
    """Rows that a writer padded, a row number that is wrong: each row would begin a little further on."""
    dataset = radiograph(Columns=columns)
    assert (at_the_door(written(dataset)), rejection(dataset)) == (code, code)


def test_more_rows_than_the_tags_tell_are_not_cut_off() -> None:
    dataset = radiograph(Rows=250)
    assert (at_the_door(written(dataset)), rejection(dataset)) == ("truncated", "truncated")


def test_a_byte_that_only_pads_is_not_counted() -> None:
    dataset = radiograph(np.zeros((5, 9), np.uint8), Columns=7)
    dataset.PixelData += b"\0"
    assert (at_the_door(written(dataset)), rejection(dataset)) == ("truncated", "truncated")


def test_zeros_behind_the_pixels_are_no_rows() -> None:
    data = written(radiograph(PixelData=CHEST.tobytes() + bytes(5 * 320)))
    np.testing.assert_array_equal(dicom.grey(cleaned(data), max_pixels=MAX_PIXELS), CHEST)
    np.testing.assert_array_equal(dicom.grey(data, max_pixels=MAX_PIXELS), CHEST)


@pytest.mark.parametrize("bits", [1, 7])
def test_a_codestream_deeper_than_its_tags_is_not_read(bits: int) -> None:
    dataset = encapsulated(JPEGBaseline8Bit, jpeg(CHEST), BitsStored=bits, HighBit=bits - 1)
    assert rejection(dataset) == "truncated"
    deep = compressed(JPEG2000Lossless, radiograph(CHEST.astype(np.uint16) * 257, bits=16))
    deep.BitsStored, deep.HighBit = 12, 11
    assert rejection(deep) == "truncated"
    signed = compressed(JPEG2000Lossless, radiograph((CHEST.astype(int) * 257 - 32768).astype(np.int16), bits=16))
    signed.BitsStored, signed.HighBit = 12, 11
    assert rejection(signed) == "truncated"


def test_an_overlay_that_was_compressed_with_its_radiograph_is_no_depth() -> None:
    """As old files keep it, in a bit above the stored ones."""
    lines = np.zeros(CHEST.shape, np.uint16)
    lines[::40] = 1 << 15
    whole = compressed(JPEG2000Lossless, radiograph(CHEST_12 | lines, bits=16))
    whole.BitsStored, whole.HighBit = 12, 11
    np.testing.assert_array_equal(grey(whole), grey(radiograph(CHEST_12, bits=12)))


@pytest.mark.parametrize("name", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_with_higher_entries_than_it_tells_is_not_used(name: str) -> None:
    table = _lut(np.arange(4096) * 16, bits=12)
    assert rejection(radiograph(CHEST_12, bits=12, **{name: table})) == "truncated"
    one = np.arange(4096)
    one[1] = 5000  # of a value that hardly any pixel has
    np.testing.assert_array_equal(
        grey(radiograph(CHEST_12, bits=12, **{name: _lut(one, bits=12)})), grey(radiograph(CHEST_12, bits=12))
    )


@pytest.mark.parametrize("tint", [(1.0, 1.0, 1.0), (0.8, 0.9, 1.0), (1.0, 0.86, 0.67)])
def test_a_film_in_a_tint_is_no_picture_of_many_colours(tint: tuple[float, ...]) -> None:
    film = np.rint(CHEST[..., np.newaxis] * np.array(tint)).astype(np.uint8)
    dataset = radiograph(film, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    assert dicom.shown(written(dataset), max_pixels=MAX_PIXELS)[1] == ()
