"""Why an image gets no result: one stable code each, what it means and what the sender should do."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Code:
    """What a code means and what the sender should do; `quarantined` where a person should look at the image."""

    meaning: str
    advice: str
    quarantined: bool = False

    def __str__(self) -> str:
        return f"{self.meaning} {self.advice}"


CODES: Final[dict[str, Code]] = {
    "truncated": Code(
        "The file is empty, cut off or damaged.",
        "Export it again and check its size.",
    ),
    "unsupported_type": Code(
        "Not a PNG, JPEG or DICOM file, whatever its name says.",
        "Export the radiograph as one of these.",
    ),
    "too_large": Code(
        "More pixels (over 100 million, unless set otherwise) or more bytes than the server takes.",
        "Export one radiograph per file, at its own size and compressed; `GET /v1/limits` says how much is taken.",
    ),
    "multi_frame": Code(
        "More than one frame in one file; a telephone's HDR photograph holds two.",
        "Send each radiograph as a file of its own; on a telephone, switch HDR off or export it as a plain JPEG.",
    ),
    "wrong_modality": Code(
        "The DICOM tag Modality is not a radiograph's (CR, DX or RG). It alone counts, in a Secondary Capture too.",
        "Send only chest X-rays; correct the tag where it is wrong.",
    ),
    "unsupported_transfer_syntax": Code(
        "A DICOM compression that this server does not read.",
        "Export it uncompressed.",
    ),
    "decode_timeout": Code(
        "Decoding took longer than is allowed.",
        "Export the image again, uncompressed.",
    ),
    "decode_memory": Code(
        "Decoding needed more memory than is allowed.",
        "Export the image at its normal size.",
    ),
    "decoder_died": Code(
        "The image ended the process that decoded it.",
        "Export it again; an operator should look at it.",
        quarantined=True,
    ),
    "image_lost": Code(
        "The stored bytes are missing or damaged.",
        "Submit the image again; an operator should look at the disk.",
        quarantined=True,
    ),
    "model_output": Code(
        "The model gave no number for this image.",
        "An operator should look at it.",
        quarantined=True,
    ),
    "worker_died": Code(
        "The processes that worked on this image alone ended, again and again.",
        "An operator should look at it.",
        quarantined=True,
    ),
}


NOT_FRONTAL: Final = "not_a_frontal_chest_xray"
BLANK: Final = "blank"
INVERTED: Final = "inverted"
TURNED: Final = "turned"
LOW_CONTRAST: Final = "low_contrast"
FEW_LEVELS: Final = "few_levels"
COLOURED: Final = "coloured"
LATERAL_VIEW: Final = "lateral_view"
OTHER_BODY_PART: Final = "other_body_part"
UNDECIDED: Final = "undecided"

REASONS: Final[dict[str, Code]] = {
    NOT_FRONTAL: Code(
        "The picture does not look like an upright frontal chest X-ray (PA or AP).",
        "Send the frontal view, upright, uncropped, white for bone.",
    ),
    BLANK: Code("There is hardly anything to be seen.", "Look at the image, and export it again."),
    INVERTED: Code(
        "It would look like a chest X-ray with black and white exchanged.",
        "Export it with white for bone; in DICOM, correct the photometric interpretation.",
    ),
    TURNED: Code("It would look like a chest X-ray if it were turned.", "Turn it upright and export it again."),
    LOW_CONTRAST: Code(
        "Its grey levels lie so close together that much of the radiograph is lost: a wrong window, say, or a wrong depth.",
        "Export it with its whole range of grey levels; in DICOM, correct the window or the table.",
    ),
    FEW_LEVELS: Code(
        "Nearly all of it has one of 16 grey levels: black and white alone, say, and nothing between.",
        "Export it with 8 bits or more.",
    ),
    COLOURED: Code(
        "The DICOM file's pixels are of many colours, and a radiograph has none: its photometric interpretation may be wrong.",
        "Export it in grey levels, or correct the tag.",
    ),
    LATERAL_VIEW: Code("The DICOM tags say that it is a lateral view.", "Send the frontal view."),
    OTHER_BODY_PART: Code(
        "The DICOM tags name another part of the body.",
        "Send only chest X-rays; correct the tag where it is wrong.",
    ),
    UNDECIDED: Code(
        "The probability lies in the model's band: it does not tell positive from negative there.",
        "Nothing is wrong with the image; this model does not answer the question.",
    ),
}
"""Why a readable image is inconclusive: it gets the label, these reasons and, unless it is UNDECIDED, no probability."""

PALETTE: Final = "palette"
ALPHA: Final = "alpha"
CMYK: Final = "cmyk"

NOTES: Final[dict[str, Code]] = {
    PALETTE: Code(
        "Its pixels name colours of a palette; these were turned into grey levels.", "Export it in grey levels."
    ),
    ALPHA: Code(
        "It has an alpha channel or a transparent colour; what is transparent was laid on black.", "Export it without."
    ),
    CMYK: Code("Its colours are meant for print; they were turned into grey levels.", "Export it in grey levels."),
}
"""What was done to an image that no radiograph should need. It is classified all the same, and the result says so."""

_RUST_PANIC = "PanicException"  # what a decoder written in Rust raises; it can be imported from nowhere


class ImageRejected(Exception):
    """The image cannot be classified; `code` is one of CODES, the message is for the log and has no patient data."""

    def __init__(self, code: str, words: str) -> None:
        if code not in CODES:
            raise KeyError(code)
        super().__init__(words)
        self.code = code
        self.words = words

    def __reduce__(self) -> tuple[type["ImageRejected"], tuple[str, str]]:
        return ImageRejected, (self.code, self.words)  # it crosses from the decoding process to the worker


@contextmanager
def damage_rejected() -> Iterator[None]:
    """Whatever a library raises over these bytes becomes ImageRejected, and its warnings are not shown.

    Too little memory says nothing about the bytes, so MemoryError passes.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom quotes the values of tags in its warnings
            yield
    except (ImageRejected, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != _RUST_PANIC:
            raise
        # The error's own words may quote the file, so only its type is told.
        raise ImageRejected("truncated", f"the data cannot be read: {type(error).__name__}") from error
