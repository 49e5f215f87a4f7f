"""What a reader is shown of each stored value in a DICOM file: tables, slope, window and padding (PS3.3, C.11)."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue

from worker import depths
from worker.rejection import ImageRejected

MANY: Final = 1 / 20
"""Of the pixels: so many levels that are higher than the tags allow are no marker, overlay or noise."""

_FEW_BITS, _MOST_BITS = 8, 16  # so few are all used
_NARROWEST = 1e-9  # a window of one value: what is above it is white

Stored = NDArray[np.generic]
Values = NDArray[np.int_]
Levels = NDArray[np.float64]


def shown(dataset: Dataset, stored: Stored) -> NDArray[np.uint8]:
    """Return the grey level shown for each value that may be stored, or raise ImageRejected.

    Worked out once per value, not per pixel. Negative values stand in the upper half, as in two's complement.
    """
    if not 1 <= dataset.BitsStored <= _MOST_BITS:
        raise ImageRejected("truncated", "the tags leave no grey levels")
    values = np.arange(1 << dataset.BitsStored)
    if dataset.PixelRepresentation:
        values[len(values) // 2 :] -= len(values)
    padding = _padding(dataset, values)
    levels = _levels(dataset, values, stored, padding)
    if dataset.PhotometricInterpretation == "MONOCHROME1":  # stored the other way round
        levels = 255 - levels
    levels[padding] = 0
    return np.rint(levels).astype(np.uint8)


def _padding(dataset: Dataset, values: Values) -> NDArray[np.bool_]:
    """Which values are no part of the radiograph: black, whatever is black otherwise (PS3.3, C.7.5.1.1.2)."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(len(values), dtype=bool)
    last = dataset.get("PixelPaddingRangeLimit", first)
    lowest = int(values.min())  # the sign may be written as if it were none
    low, high = sorted((int(end) - lowest) % 65536 + lowest for end in (first, last))
    return np.asarray((values >= low) & (values <= high))


def _levels(dataset: Dataset, values: Values, stored: Stored, padding: NDArray[np.bool_]) -> Levels:
    """From 0, black, to 255: by the last table or window, or else by the values that are really used."""
    slope, intercept = _rescale(dataset)
    modality, voi = dataset.get("ModalityLUTSequence"), dataset.get("VOILUTSequence")
    levels: Levels = _looked_up(dataset, modality[0], values) if modality else np.asarray(values * slope + intercept)
    low, high = 0.0, 1.0
    if voi:
        levels = _looked_up(dataset, voi[0], levels)
        high = _white(voi[0], levels, stored)
    elif (windowed := _windowed(dataset, levels)) is not None:
        levels = windowed
    elif modality:
        high = _white(modality[0], levels, stored)
    else:
        low, high = sorted(end * slope + intercept for end in _used(values, stored, padding))
    if not (0 < high - low < np.inf and np.isfinite(levels).all()):
        raise ImageRejected("truncated", "the tags leave no range of grey levels")
    return np.asarray(np.clip((levels - low) * 255 / (high - low), 0, 255))


def _rescale(dataset: Dataset) -> tuple[float, float]:
    slope, intercept = _first(dataset, "RescaleSlope"), _first(dataset, "RescaleIntercept")
    # One alone means nothing, and a slope of 0 is one that nobody filled in.
    return (1.0, 0.0) if not slope or intercept is None else (slope, intercept)


def _windowed(dataset: Dataset, levels: Levels) -> Levels | None:
    """Levels 0-1 by the first window (PS3.3, C.11.2.1.2 and C.11.2.1.3); None without one, or one without a width."""
    center, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    if center is None or width is None or width <= 0:
        return None
    function = dataset.get("VOILUTFunction") or "LINEAR"
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * (levels - center) / width)))
    if function == "LINEAR":
        center, width = center - 0.5, max(width - 1, _NARROWEST)
    return np.clip((levels - center) / width + 0.5, 0, 1)


def _first(dataset: Dataset, name: str) -> float | None:
    value = dataset.get(name)
    first = value[0] if isinstance(value, MultiValue) else value
    return None if first in {None, ""} else float(first)


def _looked_up(dataset: Dataset, table: Dataset, levels: Stored) -> Levels:
    """The entry of each level; below the first and above the last, these (PS3.3, C.11.1.1)."""
    count, first = int(table.LUTDescriptor[0]) % 65536 or 65536, int(table.LUTDescriptor[1])
    if first > 32767 and levels.min() < 0:  # noqa: PLR2004 - a sign, written as if it were none
        first -= 65536
    entries = _entries(dataset, table, count)
    return entries[np.clip(levels - first, 0, count - 1).astype(np.intp)].astype(np.float64)


def _entries(dataset: Dataset, table: Dataset, count: int) -> Stored:
    """Words; or bytes, where an entry has 8 bits and they are packed."""
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    data = table.LUTData
    words = np.frombuffer(data, f"{order}u2") if isinstance(data, bytes) else np.atleast_1d(data)
    entries: Stored = words.astype("<u2")
    if len(entries) < count and int(table.LUTDescriptor[2]) == _FEW_BITS:
        entries = entries.view(np.uint8)
    if len(entries) < count:
        raise ImageRejected("truncated", "a table with fewer entries than it tells")
    return entries


def _white(table: Dataset, levels: Levels, stored: Stored) -> float:
    """The highest entry that the table says it has; where many pixels are shown a higher one, it has other bits."""
    bits = int(table.LUTDescriptor[2])
    counts = depths.histogram(stored, places=len(levels))
    if not _FEW_BITS <= bits <= _MOST_BITS or counts[levels >= 1 << bits].sum() > MANY * counts.sum():
        raise ImageRejected("truncated", "a table whose entries have other bits than it tells")
    return float((1 << bits) - 1)


def _used(values: Values, stored: Stored, padding: NDArray[np.bool_]) -> tuple[int, int]:
    """Lowest and highest value of the depth that is really used: nothing else says what is black and what white."""
    low, high = int(values.min()), int(values.max())
    if len(values) <= 1 << _FEW_BITS:
        return low, high
    counts = depths.histogram(stored, places=len(values))
    counts[padding] = 0
    if not counts.any():
        return low, high
    lowest, highest = (place + low for place in depths.used(np.roll(counts, -low)))
    lowest = min(0, lowest)
    if not lowest:
        low = 0  # signed in name only
    most = (1 << depths.depth(highest - lowest)) - 1
    return (lowest, lowest + most) if most < high - low else (low, high)
