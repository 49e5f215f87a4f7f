"""Synthetic radiographs as files of every kind that hospitals send; made without TensorFlow."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from training import anatomy

_DIGITAL_XRAY = UID("1.2.840.10008.5.1.4.1.1.1.1")  # Digital X-Ray Image Storage - For Presentation
_BITS = 12

Grey = NDArray[np.uint8]


def phantom(seed: int, *, size: int = 512) -> Grey:
    """Return the (size, size) grey levels of this seed's radiograph, the same every time."""
    return anatomy.draw(seed, size=size).grey


def write(directory: Path, count: int, seed: int) -> list[Path]:
    """Write `count` radiographs in turn as PNG of 8 and 16 bits, JPEG and DICOM of both polarities."""
    directory.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for place in range(count):
        suffix, encode = _KINDS[place % len(_KINDS)]
        path = directory / f"synthetic-{place + 1:04d}.{suffix}"
        path.write_bytes(encode(phantom(seed + place)))
        paths.append(path)
    return paths


def write_layout(folder: Path, patients: int, seed: int, *, size: int = 192) -> None:
    """Write COVID and Normal, `patients` of each, with lung masks, in the layout that training reads."""
    for label, opacities in (("COVID", True), ("Normal", False)):
        for part in ("images", "masks"):
            (folder / label / part).mkdir(parents=True, exist_ok=True)
        for place in range(patients):
            drawing = anatomy.draw(seed + place + patients * (not opacities), size=size, opacities=opacities)
            name = f"{label}-{place + 1}.png"
            (folder / label / "images" / name).write_bytes(_png(drawing.grey))
            Image.fromarray(drawing.lungs).save(folder / label / "masks" / name)


def _png(grey: Grey) -> bytes:
    return _encoded(Image.fromarray(grey), "PNG")


def _png_16(grey: Grey) -> bytes:
    return _encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG")


def _jpeg(grey: Grey) -> bytes:
    return _encoded(Image.fromarray(grey), "JPEG")


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=90)
    return buffer.getvalue()


def _dicom(grey: Grey) -> bytes:
    return _dataset(grey, "MONOCHROME2")


def _dicom_inverted(grey: Grey) -> bytes:
    return _dataset(255 - grey, "MONOCHROME1")


def _dataset(stored: Grey, photometric: str) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = _DIGITAL_XRAY
    # The UID follows from the pixels, so that the same phantom is the same file.
    uid = generate_uid(entropy_srcs=[stored.tobytes().hex(), photometric])
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[uid, "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[uid, "series"])
    dataset.Modality, dataset.ViewPosition, dataset.BodyPartExamined = "DX", "PA", "CHEST"
    dataset.PatientName, dataset.PatientID, dataset.AccessionNumber = "", "", ""
    dataset.ImageType = ["DERIVED", "SYNTHETIC"]
    _pixels(dataset, stored, photometric)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _pixels(dataset: Dataset, stored: Grey, photometric: str) -> None:
    dataset.Rows, dataset.Columns = stored.shape
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = photometric, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, _BITS, _BITS - 1
    dataset.PixelRepresentation = 0
    top = (1 << _BITS) - 1
    dataset.PixelData = (stored.astype(np.uint32) * top // 255).astype("<u2").tobytes()


_KINDS: tuple[tuple[str, Callable[[Grey], bytes]], ...] = (
    ("png", _png),
    ("16bit.png", _png_16),
    ("jpg", _jpeg),
    ("dcm", _dicom),
    ("inverted.dcm", _dicom_inverted),
)
