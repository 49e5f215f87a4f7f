"""What is kept of a DICOM file's tags: enough to find the study again, and nothing that names a person."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Identifiers:
    """Study and SOP Instance UID, accession number; each None where the file does not give it."""

    study_uid: str | None
    sop_uid: str | None
    accession: str | None
