"""A patient's name, planted in every place of a file where it can stand."""

import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from tests import dicoms as made
from tests import pictures
from tests.pictures import chunk, saved

NAME = b"Mustermann"
PATIENT = re.compile(b"\0?".join(bytes([letter]) for letter in NAME), re.IGNORECASE)
"""The name in small letters or capitals, in UTF-8 or UTF-16."""


def named() -> Dataset:
    """A radiograph with the name in every tag that takes a text, in sequences, overlays and private tags."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it does not belong there, that is the point
        return _named()


def _named() -> Dataset:
    name = NAME.decode()
    dataset = made.radiograph(made.CHEST_12, bits=12)
    dataset.PatientName, dataset.PatientID, dataset.OtherPatientNames = f"{name}^Erika", name, name
    dataset.PatientBirthDate, dataset.ReferringPhysicianName, dataset.InstitutionName = "19640812", name, name
    dataset.StudyDescription, dataset.PatientComments, dataset.ImageComments = name, name, name
    dataset.BodyPartExamined, dataset.ViewPosition, dataset.PatientSex = f"{name}^E", f"{name}^E", name
    dataset.AccessionNumber, dataset.Manufacturer = name, f"{name} GmbH"
    item = Dataset()
    item.PatientName, item.CodeMeaning = name, name
    dataset.ReferencedPatientSequence, dataset.OtherPatientIDsSequence = Sequence([item]), Sequence([item, item])
    dataset["OtherPatientIDsSequence"].is_undefined_length = True
    dataset.VOILUTSequence = made._lut(np.arange(4096) * 16)
    dataset.VOILUTSequence[0].LUTExplanation = name
    dataset.VOILUTSequence[0].add_new(0x00091010, "LO", name)
    block = dataset.private_block(0x0009, "ACME", create=True)
    block.add_new(1, "LO", name)
    block.add_new(2, "UN", NAME + b" ")
    dataset.add_new(0x60003000, "OW", NAME * 10)
    dataset.DataSetTrailingPadding = NAME * 10
    dataset.file_meta.SourceApplicationEntityTitle = name
    dataset.file_meta.ImplementationVersionName = name
    dataset.file_meta.PrivateInformationCreatorUID = UID("1.2")
    dataset.file_meta.PrivateInformation = NAME
    return dataset


def planted() -> dict[str, bytes]:
    """Files with the name in every place where it can stand."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(_planted())


def _planted() -> Iterator[tuple[str, bytes]]:
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        dataset = named()
        dataset.file_meta.TransferSyntaxUID = syntax
        data = made.written(dataset)
        yield f"DICOM, {syntax.name}", NAME.ljust(128, b"x") + data[128:] + NAME
    dataset = named()
    dataset.BodyPartExamined = dataset.ViewPosition = dataset.PatientSex = NAME.upper().decode()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    yield "DICOM, in capitals", made.written(dataset).replace(b"ISO_IR 100", NAME.upper())
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(NAME)) + NAME
    frame = made.jpeg(made.CHEST)
    inside = made.encapsulated(JPEGBaseline8Bit, frame[:2] + comment + frame[2:-2] + comment + frame[-2:])
    yield "DICOM, JPEG inside", made.written(inside)
    lossless = get_frame(made.compressed(JPEG2000Lossless, made.radiograph()).PixelData, 0, number_of_frames=1)
    size = lossless.index(b"\xff\x52")
    comment_2000 = b"\xff\x64" + struct.pack(">HH", 4 + len(NAME), 1) + NAME
    codestream = lossless[:size] + comment_2000 + lossless[size:]
    yield "DICOM, JPEG 2000 inside", made.written(made.encapsulated(JPEG2000Lossless, codestream))
    yield from _behind_pixels(frame, lossless, comment_2000)
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = NAME.decode(), 3
    exif[0x9C9B] = NAME.decode().encode("utf-16-le")  # XPTitle, as Windows writes it
    options: dict[str, Any] = {"exif": exif, "xmp": b"<x>" + NAME, "comment": NAME, "icc_profile": NAME * 20}
    jpeg = saved(pictures.grey_image(), "JPEG", **options) + NAME
    photoshop = b"\xff\xed" + struct.pack(">H", 2 + len(NAME)) + NAME
    yield "JPEG", jpeg[:2] + photoshop + comment + jpeg[2:]
    scans = saved(pictures.grey_image(), "JPEG", progressive=True)
    second = scans.index(b"\xff\xda", scans.index(b"\xff\xda") + 2)
    yield "JPEG, between scans", scans[:second] + comment + scans[second:]
    info = PngInfo()
    info.add_text("Author", NAME.decode())
    info.add_text("Comment", NAME.decode() * 9, zip=False)
    info.add_itxt("Title", NAME.decode())
    png = saved(pictures.grey_image(), pnginfo=info, exif=exif, icc_profile=NAME * 20)
    private = chunk(b"naMe", NAME) + chunk(b"zTXt", b"Author\0\0" + zlib.compress(NAME))
    yield "PNG", png[:33] + private + png[33:] + NAME


def _behind_pixels(jpeg: bytes, codestream: bytes, comment: bytes) -> Iterator[tuple[str, bytes]]:
    """In compressed frames, where the pixels have begun or have ended."""
    trailed = {JPEGBaseline8Bit: jpeg, JPEG2000Lossless: codestream}
    for syntax, frame in trailed.items():
        yield f"DICOM, behind the frame, {syntax.name}", made.written(made.encapsulated(syntax, frame + NAME))
    box = struct.pack(">I4s", 8 + len(NAME), b"uuid") + NAME
    file = saved(Image.fromarray(made.CHEST), "JPEG2000")
    at = file.index(b"jp2c") - 4
    boxed = made.encapsulated(JPEG2000Lossless, file[:at] + box + file[at:] + box)
    yield "DICOM, JPEG 2000 in its boxes", made.written(boxed)
    tile = codestream.index(b"\xff\x90")
    (length,) = struct.unpack_from(">I", codestream, tile + 6)
    for told in (length + len(comment), 0):
        head = codestream[tile : tile + 6] + struct.pack(">I", told) + codestream[tile + 10 : tile + 12]
        inside = codestream[:tile] + head + comment + codestream[tile + 12 :] + (b"" if told else NAME)
        yield f"DICOM, JPEG 2000, a tile-part of {told}", made.written(made.encapsulated(JPEG2000Lossless, inside))
    rle = get_frame(made.compressed(RLELossless, made.radiograph()).PixelData, 0, number_of_frames=1)
    header = struct.pack("<4I", 1, 64 + len(NAME), 0, 0) + NAME.ljust(48, b"\0")
    yield "DICOM, RLE", made.written(made.encapsulated(RLELossless, header + NAME + rle[64:] + NAME))
    planes = get_frame(
        made.compressed(RLELossless, made.radiograph(made.CHEST.astype(np.uint16) * 257, bits=16)).PixelData, 0,
        number_of_frames=1,
    )  # fmt: skip
    second = struct.unpack_from("<3I", planes)[2]
    header = struct.pack("<3I", 2, 64, second + len(NAME)).ljust(64, b"\0")
    between = made.radiograph(made.CHEST.astype(np.uint16), bits=16)
    between.PixelData = encapsulate([header + planes[64:second] + NAME + planes[second:] + NAME])
    between["PixelData"].VR, between.file_meta.TransferSyntaxUID = "OB", RLELossless
    yield "DICOM, RLE, between its segments", made.written(between)
