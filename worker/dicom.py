"""From a DICOM file to its grey levels; every size is computed from the tags before a pixel is touched."""

import io
import logging
import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import get_frame
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.pixels import apply_color_lut, get_decoder, pixel_array
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    RLELossless,
)

from db.identifiers import Identifiers
from worker import depths, frames, jpegs, luts
from worker.formats import CHEST_PARTS, FRONTAL_WORDS, LATERAL_CODES, LATERAL_VIEWS, LATERAL_WORDS, RADIOGRAPHS
from worker.rejection import COLOURED, LATERAL_VIEW, OTHER_BODY_PART, PALETTE, ImageRejected, damage_rejected

_LONGEST_IDENTIFIER = 64  # of a UID; an accession number has 16 characters
_FEW_BITS, _MOST_BITS = 8, 16  # so few are all used
# What the greediest decoder takes for one sample: OpenJPEG's int32, and the result.
_BYTES_PER_SAMPLE = 8

_WORDS = re.compile("[A-Z]+")
_HUE, _SOME = 1 / 16, 1 / 10  # of white, a colour from its grey; of the pixels

_BASELINE = {JPEGBaseline8Bit, JPEGExtended12Bit}

Grey = NDArray[np.uint8]

# What they log quotes tags: a patient's name would stand in our log.
for _name in ("pydicom", "pylibjpeg", "openjpeg"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)


def grey(data: bytes, *, max_pixels: int) -> Grey:
    """Return the pixels as shown to a reader, white for dense, (rows, columns) uint8, or raise ImageRejected."""
    return shown(data, max_pixels=max_pixels)[0]


def shown(data: bytes, *, max_pixels: int) -> tuple[Grey, tuple[str, ...]]:
    """As `grey`, with COLOURED beside where that is so."""
    with damage_rejected():
        dataset = _read(data)
        _check(dataset, max_pixels)
        stored = _pixels(dataset)
        if stored.ndim == 3 or dataset.PhotometricInterpretation == "PALETTE COLOR":  # noqa: PLR2004
            return _from_colour(dataset, stored)
        values = _unsigned(dataset, stored)
        return np.asarray(luts.shown(dataset, values)[values]), ()


class Told(NamedTuple):
    """What the tags say: the ones that are kept, and which of REASONS and NOTES they give."""

    identifiers: Identifiers
    marks: tuple[str, ...]


def told(data: bytes) -> Told:
    """Read the tags, or raise ImageRejected."""
    with damage_rejected():
        dataset = _read(data, stop_before_pixels=True)

        def text(name: str) -> str | None:
            # PostgreSQL takes no NUL and no half of a surrogate pair.
            value = "".join(c for c in str(dataset.get(name) or "") if c.isprintable())
            return value.strip()[:_LONGEST_IDENTIFIER] or None

        identifiers = Identifiers(text("StudyInstanceUID"), text("SOPInstanceUID"), text("AccessionNumber"))
        marks = []
        part = (text("BodyPartExamined") or "").upper()
        if _is_lateral(dataset, (text("ViewPosition") or "").upper(), part):
            marks.append(LATERAL_VIEW)
        if part and not any(word in part for word in CHEST_PARTS):
            marks.append(OTHER_BODY_PART)
        if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
            marks.append(PALETTE)
        return Told(identifiers, tuple(marks))


def _is_lateral(dataset: Dataset, view: str, part: str) -> bool:
    """By the code of the view, by rows or columns that run from front to back (PS3.3, C.7.6.1.1.1), or by words.

    Words that name a frontal view too mean both of a study; a lateral decubitus is a frontal one of who lies.
    """
    codes = [str(item.get("CodeValue")) for item in dataset.get("ViewCodeSequence") or ()]
    directions = [str(direction).upper() for direction in dataset.get("PatientOrientation") or ()]
    if not LATERAL_CODES.isdisjoint(codes) or any(direction.startswith(("A", "P")) for direction in directions):
        return True
    views, beside = set(_WORDS.findall(view)), set(_WORDS.findall(part))
    if not FRONTAL_WORDS.isdisjoint(views | beside):
        return False
    return not LATERAL_VIEWS.isdisjoint(views) or not LATERAL_WORDS.isdisjoint(beside)


def _read(data: bytes, *, stop_before_pixels: bool = False) -> Dataset:
    # A deflated data set of 522 kB became 1,094 MB in dcmread: read the syntax before it, as dcmread will.
    file = io.BytesIO(data)
    read_preamble(file, force=False)
    if _read_file_meta_info(file).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise ImageRejected("unsupported_transfer_syntax", "deflated DICOM is refused")
    file.seek(0)
    return dcmread(file, stop_before_pixels=stop_before_pixels)


def _check(dataset: Dataset, max_pixels: int) -> None:
    if str(dataset.get("Modality")).upper() not in RADIOGRAPHS:
        raise ImageRejected("wrong_modality", "only CR, DX and RG are radiographs")
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if min(rows, columns, frames) < 1 or dataset.SamplesPerPixel not in {1, 3} or not dataset.get("PixelData"):
        raise ImageRejected("truncated", "the data set holds no pixels")
    if rows * columns * frames > max_pixels:
        raise ImageRejected("too_large", f"{columns} x {rows} x {frames} pixels")
    if frames > 1:
        raise ImageRejected("multi_frame", "more than one frame")
    try:
        readable = get_decoder(dataset.file_meta.TransferSyntaxUID).is_available
    except NotImplementedError:
        readable = False
    if not readable:
        raise ImageRejected("unsupported_transfer_syntax", "no decoder for this transfer syntax")


def _pixels(dataset: Dataset) -> NDArray[np.generic]:
    """Return what is stored, (rows, columns) or, in colour, (rows, columns, 3)."""
    syntax = dataset.file_meta.TransferSyntaxUID
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1) if syntax.is_compressed else b""
    if not syntax.is_compressed:
        asked = get_expected_length(dataset)
        if frames.check_length(len(dataset.PixelData), asked, rows=dataset.Rows):
            frames.check_zeros(dataset.PixelData[asked:])
    if frame and syntax != RLELossless:
        _check_codestream(dataset, frame, is_jpeg=syntax not in JPEG2000TransferSyntaxes)
    # pydicom turns a decoder's MemoryError into RuntimeError, so the memory is asked for here first.
    samples = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel
    np.empty(samples * _BYTES_PER_SAMPLE, np.uint8)
    if syntax in _BASELINE:
        levels = jpegs.grey(frame, dataset.Columns, dataset.Rows)  # pydicom's decoder paints over damage
        if levels is not None and dataset.SamplesPerPixel == 1 and not dataset.PixelRepresentation:
            return levels
    if below := _bits_below(dataset):
        return np.asarray(pixel_array(dataset, index=0, bits_stored=dataset.BitsAllocated) >> below)
    return pixel_array(dataset, index=0)


def _bits_below(dataset: Dataset) -> int:
    """How many bits stand below the stored ones in the cell of a sample: none today, but in old files some do."""
    bits, high, syntax = int(dataset.BitsStored), dataset.get("HighBit"), dataset.file_meta.TransferSyntaxUID
    if high is None or (syntax.is_compressed and syntax != RLELossless):  # a codestream knows no cells
        return 0
    below = int(high) + 1 - bits
    if bits < 1 or not 0 <= below <= dataset.BitsAllocated - bits:
        raise ImageRejected("truncated", "the tags leave no bits")
    return below


def _check_codestream(dataset: Dataset, frame: bytes, *, is_jpeg: bool) -> None:
    """A compressed frame names its own size, and its decoder allocates by that; a JPEG is whole if it has its end."""
    inside = frames.size_of_jpeg(frame) if is_jpeg else frames.size_of_jpeg_2000(frame)
    if inside != (dataset.Rows, dataset.Columns):
        raise ImageRejected("truncated", "the tags and the compressed image name different sizes")
    if is_jpeg:
        jpegs.check_end(frame)
        jpegs.check_scans(frame)
    else:
        frames.check_tiles(frame)


def _from_colour(dataset: Dataset, stored: NDArray[np.generic]) -> tuple[Grey, tuple[str, ...]]:
    """A colour screenshot of a radiograph: brightness by ITU-R BT.601.

    One whose photometric interpretation is not that of its pixels looks like a chest too, in wrong greys: it is COLOURED.
    """
    bits = dataset.BitsStored
    if stored.ndim == 2:  # noqa: PLR2004 - indices into a palette
        stored = apply_color_lut(stored, dataset)
        bits = 8 * stored.itemsize
    elif _FEW_BITS < bits <= _MOST_BITS:
        bits = min(bits, depths.depth(depths.highest(stored)))
    white = (1 << bits) - 1
    brightness = stored[..., :3] @ np.array([0.299, 0.587, 0.114])
    grey = np.asarray(np.rint(np.minimum(brightness * 255 / white, 255)), dtype=np.uint8)
    return grey, (COLOURED,) if _hues(stored[::4, ::4, :3].reshape(-1, 3) / white) > _SOME else ()


def _hues(pixels: NDArray[np.float64]) -> float:
    """The share of pixels, (n, 3) of 0-1, that are not grey in the tint of all of them, as a film's base has one."""
    mean = pixels.mean(axis=1)
    tint = pixels.T @ mean / max(mean @ mean, _HUE)
    return float((np.abs(pixels - np.outer(mean, tint)) > _HUE).any(axis=1).mean())


def _unsigned(dataset: Dataset, stored: NDArray[np.generic]) -> NDArray[np.generic]:
    """The stored bits alone as an unsigned number; old files keep overlays in the bits above them.

    In a codestream many levels beyond the tag's are of another depth, and would begin again at black.
    """
    native = stored.astype(stored.dtype.newbyteorder("="), copy=False)  # big endian is a transfer syntax too
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and syntax != RLELossless:
        half = 1 << dataset.BitsStored - 1
        low, high = (-half, half) if native.dtype.kind == "i" else (0, 2 * half)
        if np.mean((native < low) | (native >= high)) > luts.MANY:
            raise ImageRejected("truncated", "the tags and the compressed image name different depths")
    return np.asarray(native.view(f"u{stored.itemsize}") & ((1 << dataset.BitsStored) - 1))
