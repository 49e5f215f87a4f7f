"""What a file is, told by its first bytes; names and declared types are not trusted."""

from typing import Final

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_DICOM = b"DICM"
_DICOM_PREAMBLE = 128

MAGIC_BYTES: Final = _DICOM_PREAMBLE + len(_DICOM)
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
    if head[_DICOM_PREAMBLE:MAGIC_BYTES] == _DICOM:
        return DICOM
    return None
