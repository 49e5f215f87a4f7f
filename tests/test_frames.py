"""A compressed frame inside DICOM that is cut off or damaged: refused in every syntax, never painted over."""

import pytest
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEGBaseline8Bit

from tests.dicoms import CHEST, EXACT, encapsulated, jpeg, written
from tests.test_dicom import rejection
from tests.test_door import cleaned
from tests.test_door import rejection as at_the_door

COMPRESSED = [name for name, make in EXACT.items() if make().file_meta.TransferSyntaxUID.is_compressed]


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_a_frame_that_is_cut_off_inside_a_whole_file_is_truncated(encoding: str) -> None:
    """Decoders of JPEG and JPEG-LS paint what is missing in grey and say nothing."""
    dataset = EXACT[encoding]()
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1).rstrip(b"\0")
    for length in (len(frame) - 2, *(len(frame) * part // 100 for part in (99, 90, 80, 50))):
        dataset.PixelData = encapsulate([frame[:length]])
        assert rejection(dataset) == "truncated"


@pytest.mark.parametrize("encoding", [name for name in COMPRESSED if name.startswith(("JPEG l", "JPEG b", "JPEG-LS"))])
def test_a_jpeg_without_its_end_stays_outside(encoding: str) -> None:
    dataset = EXACT[encoding]()
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([frame[: frame.rindex(b"\xff\xd9")]])
    assert at_the_door(written(dataset)) == "truncated"


@pytest.mark.parametrize("byte", [0, 0x55])
def test_damage_inside_a_baseline_frame_is_truncated(byte: int) -> None:
    frame = bytearray(jpeg(CHEST))
    start = len(frame) // 2
    frame[start : start + len(frame) // 10] = bytes([byte]) * (len(frame) // 10)
    data = written(encapsulated(JPEGBaseline8Bit, bytes(frame)))
    assert rejection(cleaned(data)) == "truncated"
