"""What a file is, told by its first bytes; names and declared types are not trusted. And what is taken of each."""

from typing import Final

from settings import Settings
from worker.rejection import ImageRejected

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_DICOM = b"DICM"

DICOM_PREAMBLE: Final = 128
"""Bytes before the magic ones of a DICOM file; they mean nothing and may hold anything."""

MAGIC_BYTES: Final = DICOM_PREAMBLE + len(_DICOM)
"""How much of a file `media_type` needs to see."""

PNG: Final = "image/png"
JPEG: Final = "image/jpeg"
DICOM: Final = "application/dicom"

MAX_PIXELS: Final[int] = Settings.max_pixels
"""The most that are decoded, by the file's own header, where no setting says otherwise."""

RADIOGRAPHS: Final = ("CR", "DX", "RG")
"""The DICOM modalities that are radiographs."""

LATERAL_WORDS: Final = frozenset({"LAT", "LATERAL", "LLAT", "RLAT"})
"""What is written of a lateral view, in View Position or beside the body part."""

LATERAL_VIEWS: Final = frozenset({"LL", "RL", "LLO", "RLO"}) | LATERAL_WORDS
"""View positions of PS3.3, C.8.7.1.1.1, and what is written instead."""

FRONTAL_WORDS: Final = frozenset({"AP", "PA", "LLD", "RLD", "DECUB", "DECUBITUS"})
"""View positions of a frontal view, and what is written of one where the patient lies on a side."""

LATERAL_CODES: Final = frozenset(
    {
        *(
            "399067008",
            "399173006",
            "399198007",
            "399260004",
            "399352003",
        ),  # SNOMED CT: lateral; left, right; medio-, latero-
        *("R-102CD", "R-10236", "R-10232", "R-10224", "R-10228"),  # the same in SNOMED RT, which older files name
    }
)
"""Lateral ones of the view codes of PS3.16, CID 4010, in which DX tells its view."""

CHEST_PARTS: Final = ("CHEST", "THORA", "TORAX", "TORACE", "CXR", "LUNG", "PULMO", "HEART", "TORSO", "TRUNK", "RIB")
"""What a body part that shows the chest has in its name."""


def media_type(head: bytes) -> str | None:
    """Tell PNG, JPEG and DICOM; None for everything else."""
    if head.startswith(_PNG):
        return PNG
    if head.startswith(_JPEG):
        return JPEG
    if head[DICOM_PREAMBLE:MAGIC_BYTES] == _DICOM:
        return DICOM
    return None


def check_pixels(width: int, height: int, *, most: int) -> None:
    """Raise ImageRejected where a header names no pixels, or more than are decoded."""
    if not width or not height:
        raise ImageRejected("truncated", "the header names no pixels")
    if width * height > most:
        raise ImageRejected("too_large", f"{width} x {height} is more than {most} pixels")
