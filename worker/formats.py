"""What a file is, told by its first bytes; names and declared types are not trusted."""

from typing import Final

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


def media_type(head: bytes) -> str | None:
    """Tell PNG, JPEG and DICOM; None for everything else."""
    if head.startswith(_PNG):
        return PNG
    if head.startswith(_JPEG):
        return JPEG
    if head[DICOM_PREAMBLE:MAGIC_BYTES] == _DICOM:
        return DICOM
    return None
