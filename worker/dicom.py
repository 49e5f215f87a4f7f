"""From a DICOM file to its grey levels; every size is computed from the tags before a pixel is touched."""

import io

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian

from db.identifiers import Identifiers
from worker.rejection import ImageRejected

RADIOGRAPHS = {"CR", "DX", "RG"}


def grey(data: bytes, *, max_pixels: int) -> NDArray[np.uint8]:
    """Return the pixels as shown to a reader, white for dense, (rows, columns) uint8, or raise ImageRejected."""
    dataset = _read(data)
    _check(dataset, max_pixels)
    try:
        stored = pixel_array(dataset)
    except (NotImplementedError, RuntimeError) as error:
        raise ImageRejected("unsupported_transfer_syntax", "no decoder for this transfer syntax") from error
    except MemoryError:
        raise
    except Exception as error:
        raise ImageRejected("truncated", f"the pixel data cannot be read: {type(error).__name__}") from error
    if stored.ndim == 3:  # noqa: PLR2004 - a colour screenshot of a radiograph
        return np.asarray(stored[..., :3] @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return _shown(dataset, stored)


def identifiers(data: bytes) -> Identifiers:
    """Return the tags that are kept, or raise ImageRejected."""
    dataset = _read(data, stop_before_pixels=True)

    def text(name: str) -> str | None:
        return str(dataset.get(name, "") or "").strip()[:64] or None

    return Identifiers(text("StudyInstanceUID"), text("SOPInstanceUID"), text("AccessionNumber"))


def _read(data: bytes, *, stop_before_pixels: bool = False) -> Dataset:
    # A deflated data set of 522 kB became 1,094 MB in dcmread: refuse the syntax by its UID, before reading.
    if DeflatedExplicitVRLittleEndian.encode() in data[:1024]:
        raise ImageRejected("unsupported_transfer_syntax", "deflated DICOM is refused")
    try:
        return dcmread(io.BytesIO(data), stop_before_pixels=stop_before_pixels)
    except MemoryError:
        raise
    except (InvalidDicomError, Exception) as error:
        raise ImageRejected("truncated", f"the data set cannot be read: {type(error).__name__}") from error


def _check(dataset: Dataset, max_pixels: int) -> None:
    if dataset.get("Modality") not in RADIOGRAPHS:
        raise ImageRejected("wrong_modality", "only CR, DX and RG are radiographs")
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if not rows or not columns or "PixelData" not in dataset:
        raise ImageRejected("truncated", "the data set holds no pixels")
    if rows * columns > max_pixels:
        raise ImageRejected("too_large", f"{columns} x {rows} pixels")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ImageRejected("multi_frame", "more than one frame")


def _shown(dataset: Dataset, stored: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Modality LUT, then VOI LUT or window, then 0-255; MONOCHROME1 is stored the other way round."""
    values = np.asarray(apply_voi_lut(apply_modality_lut(stored, dataset), dataset), dtype=np.float64)
    low, high = _range(dataset)
    if not high > low:
        raise ImageRejected("truncated", "the tags leave no range of grey levels")
    levels = np.clip((values - low) * 255 / (high - low), 0, 255)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        levels = 255 - levels
    return levels.astype(np.uint8)


def _range(dataset: Dataset) -> tuple[float, float]:
    """Lowest and highest value that the LUTs, or the stored bits and the rescale, can give (PS3.3 C.11)."""
    for name in ("VOILUTSequence", "ModalityLUTSequence"):
        if dataset.get(name):
            return 0, (1 << int(dataset[name][0].LUTDescriptor[2])) - 1
    bits = int(dataset.get("BitsStored") or dataset.get("BitsAllocated") or 8)
    signed = bool(dataset.get("PixelRepresentation"))
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return ends[0], ends[1]
