"""A tiny data set that can honestly be learned: what is ill is a pattern inside the lungs, and nothing else tells."""

import csv
import io
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training import anatomy

SIZE: Final = 192
_TILE: Final = 6  # pixels
_STRENGTH: Final = 34.0  # grey levels, up and down alike, so that the lungs' mean says nothing
_PATIENTS: Final = {0: 10, 1: 10, 2: 10, 3: 10, 4: 12, 5: 20}


def radiograph(seed: int, *, ill: bool) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return grey levels and lungs of this seed's patient."""
    drawing = anatomy.draw(seed, size=SIZE, opacities=False)
    y, x = np.mgrid[0:SIZE, 0:SIZE] // _TILE
    pattern = np.where((x + y) % 2, _STRENGTH, -_STRENGTH) * (drawing.lungs & ill)
    return np.clip(drawing.grey + pattern, 0, 255).astype(np.uint8), drawing.lungs


def png(pixels: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder: Path) -> Path:
    """Write the data set in the layout that training reads: both classes from one source, folds stated."""
    rows = []
    for label, ill in (("COVID", True), ("Normal", False)):
        for part in ("images", "masks"):
            (folder / label / part).mkdir(parents=True)
        for fold, patients in _PATIENTS.items():
            for patient in range(patients):
                seed = 1000 * fold + 2 * patient + ill
                grey, lungs = radiograph(seed, ill=ill)
                (folder / label / "images" / f"{seed}.png").write_bytes(png(grey))
                (folder / label / "masks" / f"{seed}.png").write_bytes(png(lungs))
                rows.append((f"{label}/images/{seed}.png", f"patient-{seed}", fold, "hospital"))
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "patient_id", "fold", "source"), *rows])
    return folder
