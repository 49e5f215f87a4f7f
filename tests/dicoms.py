"""DICOM files made by code: one radiograph in every encoding."""

import io
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from tests import coded
from worker.radiograph import Grey

NAME = "Doe^Jane"
_Y, _X = np.mgrid[0:256, 0:320]
CHEST: Grey = np.asarray(_X * 200 // 319 + _Y * 55 // 255, dtype=np.uint8)
CHEST_12 = (CHEST.astype(int) * 4095 // 255).astype(np.uint16)


def radiograph(pixels: NDArray[Any] = CHEST, *, bits: int = 8, **tags: Any) -> Dataset:
    """A CR image of these pixels; `tags` are set last."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID("1.2.3.4")
    dataset.StudyInstanceUID, dataset.AccessionNumber, dataset.PatientName = "1.2.3", "A-1", NAME
    dataset.Modality, dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "CR", "MONOCHROME2", 1
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsStored, dataset.HighBit, dataset.BitsAllocated = bits, bits - 1, 8 * pixels.itemsize
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def written(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def compressed(syntax: str, dataset: Dataset, **options: Any) -> Dataset:
    dataset.compress(syntax, generate_instance_uid=False, **options)
    return dataset


def encapsulated(syntax: str, frame: bytes, **tags: Any) -> Dataset:
    dataset = radiograph(**tags)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    return dataset


def big_endian(dataset: Dataset) -> Dataset:
    """In words of two bytes, pixels of 8 bits too."""
    dataset.PixelData = np.frombuffer(dataset.PixelData, "u2").byteswap().tobytes()
    dataset["PixelData"].VR, dataset.file_meta.TransferSyntaxUID = "OW", ExplicitVRBigEndian
    return dataset


def small(syntax: str, frame: bytes) -> Dataset:
    """What `coded` has of the radiograph."""
    rows, columns = CHEST[:: coded.STEP, :: coded.STEP].shape
    return encapsulated(syntax, frame, Rows=rows, Columns=columns)


def lossless_jpeg(pixels: Grey, *, from_above: bool = False) -> bytes:
    """JPEG lossless, predicted from the left or from above, for which no encoder is at hand (ITU-T T.81, annex H)."""
    levels = pixels.astype(int)
    before = np.hstack([np.vstack([[[128]], levels[:-1, :1]]), levels[:, :-1]])
    if from_above:
        before[1:, 1:] = levels[:-1, 1:]
    bits = []
    for difference in (levels - before).ravel().tolist():
        size = abs(difference).bit_length()
        bits.append(f"{size:04b}")
        if size:
            bits.append(f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}")
    packed = "".join(bits)
    packed += "1" * (-len(packed) % 8)
    scan = int(packed, 2).to_bytes(len(packed) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = struct.pack(">BHHBBBB", 8, *pixels.shape, 1, 1, 0x11, 0)
    table = bytes([0, 0, 0, 0, 9, *[0] * 12, *range(9)])  # nine categories of four bits
    marked = [(b"\xff\xc3", frame), (b"\xff\xc4", table), (b"\xff\xda", bytes([1, 1, 0, 1 + from_above, 0, 0]))]
    return b"\xff\xd8" + b"".join(m + struct.pack(">H", len(d) + 2) + d for m, d in marked) + scan + b"\xff\xd9"


def jpeg(pixels: Grey) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


EXACT: dict[str, Callable[[], Dataset]] = {
    "MONOCHROME2": radiograph,
    "MONOCHROME1": lambda: radiograph(255 - CHEST, PhotometricInterpretation="MONOCHROME1"),
    "8 bits signed": lambda: radiograph((CHEST.astype(int) - 128).astype(np.int8)),
    "16 bits": lambda: radiograph(CHEST.astype(np.uint16) * 257, bits=16),
    "16 bits, MONOCHROME1": lambda: radiograph(
        65535 - CHEST.astype(np.uint16) * 257, bits=16, PhotometricInterpretation="MONOCHROME1"
    ),
    "16 bits signed": lambda: radiograph((CHEST.astype(int) * 257 - 32768).astype(np.int16), bits=16),
    "12 bits signed": lambda: radiograph((CHEST.astype(int) * 4095 // 255 - 2048).astype(np.int16), bits=12),
    "DX": lambda: radiograph(Modality="DX"),
    "RLE": lambda: compressed(RLELossless, radiograph()),
    "RLE, 16 bits": lambda: compressed(RLELossless, radiograph(CHEST.astype(np.uint16) * 257, bits=16)),
    "JPEG 2000 lossless": lambda: compressed(JPEG2000Lossless, radiograph()),
    "JPEG 2000 lossless, 12 bits": lambda: compressed(JPEG2000Lossless, radiograph(CHEST_12, bits=12)),
    "JPEG lossless": lambda: encapsulated(JPEGLosslessSV1, lossless_jpeg(CHEST)),
    "JPEG lossless, predicted from above": lambda: encapsulated(JPEGLossless, lossless_jpeg(CHEST, from_above=True)),
    "JPEG baseline": lambda: encapsulated(JPEGBaseline8Bit, jpeg(CHEST)),
    "JPEG 2000 lossy": lambda: compressed(JPEG2000, radiograph(), j2k_cr=[4]),
    "JPEG-LS lossless": lambda: small(JPEGLSLossless, coded.JPEG_LS),
    "JPEG-LS near-lossless": lambda: small(JPEGLSNearLossless, coded.JPEG_LS_NEAR),
    "HTJ2K lossless": lambda: small(HTJ2KLossless, coded.HTJ2K),
    "HTJ2K lossless, by resolution": lambda: small(HTJ2KLosslessRPCL, coded.HTJ2K),
    "HTJ2K lossy": lambda: small(HTJ2K, coded.HTJ2K_LOSSY),
    "big endian": lambda: big_endian(radiograph()),
    "big endian, 16 bits": lambda: big_endian(radiograph(CHEST.astype(np.uint16) * 257, bits=16)),
    "12 of 16 bits": lambda: radiograph(CHEST_12, bits=16),
    "a slope alone, which means nothing": lambda: radiograph(RescaleSlope="2"),
    "rescaled": lambda: radiograph(RescaleSlope="2", RescaleIntercept="-1024"),
    "falling slope": lambda: radiograph(255 - CHEST, RescaleSlope="-1", RescaleIntercept="255"),
    "window over the whole range": lambda: radiograph(WindowCenter="128", WindowWidth="256"),
    "window in the upper half": lambda: radiograph(CHEST // 2 + 128, WindowCenter="192", WindowWidth="128"),
    "window after the rescale": lambda: radiograph(
        RescaleSlope="4", RescaleIntercept="-100", WindowCenter="412", WindowWidth="1024"
    ),
    "window after a falling slope": lambda: radiograph(
        4095 - CHEST_12,
        bits=12,
        RescaleSlope="-1",
        RescaleIntercept="4095",
        WindowCenter="2048",
        WindowWidth="4096",
    ),
    "exact window": lambda: radiograph(
        CHEST // 2 + 64, WindowCenter="127.5", WindowWidth="127", VOILUTFunction="LINEAR_EXACT"
    ),
    "window without a width": lambda: radiograph(WindowCenter="0", WindowWidth="0"),
    "padding in MONOCHROME1": lambda: radiograph(
        np.where(CHEST_12, 4095 - CHEST_12, 65535).astype(np.uint16),
        bits=16,
        PhotometricInterpretation="MONOCHROME1",
        PixelPaddingValue=65535,
    ),
    "several windows": lambda: radiograph(WindowCenter=["128", "10"], WindowWidth=["256", "4"]),
    "modality LUT": lambda: radiograph(255 - CHEST, ModalityLUTSequence=_lut(np.arange(255, -1, -1) * 257)),
    "VOI LUT": lambda: radiograph(255 - CHEST, VOILUTSequence=_lut(np.arange(255, -1, -1) * 257)),
    "modality LUT of 12 bits": lambda: radiograph(
        CHEST_12, bits=12, ModalityLUTSequence=_lut(np.arange(4096), bits=12), WindowCenter="2048", WindowWidth="4096"
    ),
    "modality LUT of 12 bits, no window": lambda: radiograph(
        4095 - CHEST_12, bits=12, ModalityLUTSequence=_lut(np.arange(4095, -1, -1), bits=12)
    ),
    "modality LUT of 8 bits, packed": lambda: radiograph(CHEST_12, bits=12, ModalityLUTSequence=_packed_lut()),
    "VOI LUT of 8 bits in words": lambda: radiograph(
        CHEST_12, bits=12, VOILUTSequence=_lut(np.arange(4096) >> 4, bits=8)
    ),
    "VOI LUT of 8 bits, packed": lambda: radiograph(CHEST_12, bits=12, VOILUTSequence=_packed_lut()),
    "VOI LUT of 12 bits": lambda: radiograph(CHEST_12, bits=12, VOILUTSequence=_lut(np.arange(4096), bits=12)),
    "VOI LUT for a part of the values": lambda: radiograph(
        CHEST // 2 + 100, VOILUTSequence=_lut(np.arange(128) * 516, first=100)
    ),
    "VOI LUT of signed values, its first one unsigned": lambda: radiograph(
        (CHEST.astype(int) - 128).astype(np.int8), VOILUTSequence=_lut(np.arange(256) * 257, first=65536 - 128)
    ),
    "VOI LUT before a window": lambda: radiograph(
        255 - CHEST, VOILUTSequence=_lut(np.arange(255, -1, -1) * 257), WindowCenter="9", WindowWidth="2"
    ),
    "stored bits are the highest ones": lambda: radiograph(CHEST_12 << 4 | 5, bits=12, HighBit=15),
    "stored bits are the highest ones, signed": lambda: radiograph(
        ((CHEST_12.astype(int) - 2048) << 4).astype(np.int16), bits=12, HighBit=15
    ),
    "overlay in the unused bits": lambda: radiograph(CHEST_12 | (_X % 2 << 15).astype(np.uint16), bits=12),
    "colour screenshot": lambda: radiograph(
        np.dstack([CHEST] * 3), SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0
    ),
    "palette": lambda: radiograph(255 - CHEST, PhotometricInterpretation="PALETTE COLOR", **_palette()),
    "excess bytes behind the pixels": lambda: radiograph(PixelData=CHEST.tobytes() + bytes(1000)),
}


def _lut(data: NDArray[Any], *, bits: int = 16, first: int = 0) -> Sequence:
    item = Dataset()
    item.add_new(0x00283002, "US", [len(data) % 65536, first, bits])
    item.add_new(0x00283006, "OW", data.astype("<u2").tobytes())
    item.ModalityLUTType = "US"
    return Sequence([item])


def _packed_lut() -> Sequence:
    """4,096 entries of 8 bits, two in each word."""
    lut = _lut(np.arange(4096), bits=8)
    lut[0][0x00283006].value = (np.arange(4096) >> 4).astype(np.uint8).tobytes()
    return lut


def _palette() -> dict[str, Any]:
    data = (np.arange(255, -1, -1) * 257).astype("<u2").tobytes()
    colours = ("Red", "Green", "Blue")
    return {f"{colour}PaletteColorLookupTableDescriptor": [256, 0, 16] for colour in colours} | {
        f"{colour}PaletteColorLookupTableData": data for colour in colours
    }
