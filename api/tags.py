"""The DICOM tags that are kept: what the pixels need, and the list that says whose study it is without a name."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from worker.formats import CHEST_PARTS, FRONTAL_WORDS, LATERAL_CODES, LATERAL_VIEWS, LATERAL_WORDS

_UID, _CODE, _NUMBERS = re.compile(rb"[0-9.]*"), re.compile(rb"[A-Z0-9_ \\]*"), re.compile(rb"[0-9+\-.eE \\]*")
# A number without a digit is somebody's name; 0x1b changes the character set; ^ parts a person's names.
_NUMBERED = re.compile(rb"(?=[^0-9]*[0-9])[^\0-\x1a\x1c-\x1f\x7f^]*")
_CHARACTERS = re.compile(rb"(?:(?:ISO_IR |ISO 2022 IR )[0-9]{1,3}|GB18030|GBK|\\)*")  # PS3.3, C.12.1.1.2
_WORD, _WORDS = re.compile(rb"[A-Z]+"), re.compile(rb"[A-Z _.,&/()-]*")
_DIRECTIONS = re.compile(rb"[LRAPHF]{1,3}\\[LRAPHF]{1,3}")  # PS3.3, C.7.6.1.1.1
_AGE = re.compile(rb"([0-9]{3})([DWMY])")
_OLDEST = 90  # alone of this age in a region, a person may be known by it

TABLE: Final = 1 << 18
"""Bytes of the longest table: 65,536 entries of two bytes, and room."""

_PHOTOMETRIC = (  # PS3.3, C.7.6.3.1.2
    *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422"),
    *("YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"),
)
_VOI_FUNCTIONS = "LINEAR", "LINEAR_EXACT", "SIGMOID"  # PS3.3, C.11.2.1.3
_VIEWS = *sorted(FRONTAL_WORDS), *sorted(LATERAL_VIEWS)  # PS3.3, C.8.7.1.1.1
# PS3.16, annex L; and the gate's own words, in the plural too.
_BODY_PARTS = """
ABDOMEN ABDOMENPELVIS ADRENAL ANKLE AORTA ARM AXILLA BACK BLADDER BRAIN BREAST BRONCHUS BUTTOCK CALCANEUS CALF CAROTID
CEREBELLUM CERVIX CHEEK CHESTABDOMEN CHESTABDPELVIS CIRCLEOFWILLIS CLAVICLE COCCYX COLON CORNEA CORONARYARTERY
CSPINE CTSPINE DUODENUM EAR ELBOW ESOPHAGUS EXTREMITY EYE EYELID FACE FEMUR FINGER FOOT FOREARM GALLBLADDER HAND HEAD
HEADNECK HIP HUMERUS IAC ILEUM ILIUM JAW JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LSPINE LSSPINE MAXILLA MEDIASTINUM MOUTH
NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE ORBIT OVARY PANCREAS PAROTID PATELLA PELVIS PENIS PHARYNX
PROSTATE RADIUS RADIUSULNA RECTUM SCALP SCAPULA SCLERA SCROTUM SHOULDER SKULL SPINE SPLEEN SSPINE STERNUM STOMACH
SUBMANDIBULAR TESTIS THIGH THUMB THYMUS THYROID TIBIA TIBIAFIBULA TLSPINE TMJ TOE TONGUE TRACHEA TSPINE ULNA URETER
URETHRA UTERUS VAGINA VULVA WHOLEBODY WRIST ZYGOMA
""".split()  # noqa: SIM905 - a hundred words, not a hundred quotes
_BODY_PARTS += ["ABD", "THORAX", "THORACIC", "PULMONARY", *CHEST_PARTS]
_BODY_PARTS += [part + "S" for part in _BODY_PARTS]
_SIDES = "LEFT", "RIGHT", "L", "R"
_BESIDE_A_PART = *_SIDES, "BILATERAL", "UPPER", "LOWER", "WHOLE", "BODY", "PORTABLE", "PORT", *_VIEWS
_MAKERS = """
AGFA ALLENGERS CANON CARESTREAM DEL DRTECH EASTMAN FUJI FUJIFILM GE GENERAL ELECTRIC GEVAERT HITACHI HOLOGIC IRAY ITALRAY KODAK
KONICA MINOLTA LODOX LUMIRADX MINDRAY NEUSOFT OEHM PHILIPS RAYENCE REHBEIN SAMSUNG SEDECAL SHIMADZU SIEMENS STEPHANIX STERNMED SWISSRAY
TOSHIBA TRIXELL UNITED UIH VAREX VARIAN VIDISCO VIEWORKS VILLA VISARIS WANDONG
""".split()  # noqa: SIM905
_BESIDE_A_MAKER = """
AG AND BV CO COMPANY CORP CORPORATION DIGITAL ELECTRONICS FILM GMBH GROUP HEALTH HEALTHCARE HEALTHINEERS HOLDINGS IMAGING INC
INTERNATIONAL KG LIMITED LLC LTD MEC MEDICAL NV PHOTO RADIOGRAPHY SPA SYSTEM SYSTEMS TECHNOLOGIES TECHNOLOGY UND XRAY
""".split()  # noqa: SIM905


def _unpadded(value: bytes) -> bytes:
    """Without what stands around it: blanks, and zeros, which the standard wants around UIDs alone."""
    return value.strip(b" \0\t\r\n")


def _in_capitals(value: bytes) -> bytes:
    """As the standard wants words, and not every writer writes them."""
    return _unpadded(value).upper()


@dataclass(frozen=True)
class Kept:
    """How one tag is kept: its VR, the longest value, and what the value must look like or is turned into."""

    vr: bytes
    most: int
    needed: bool = True
    pattern: re.Pattern[bytes] | None = None
    turn: Callable[[bytes], bytes] = _unpadded


def _age_band(age: bytes) -> bytes:
    """Ten years, by their first; everyone of 90 and more together."""
    found = _AGE.fullmatch(_unpadded(age))
    if not found:
        return b""
    years = int(found[1]) if found[2] == b"Y" else 0
    return b"%03dY" % (min(years, _OLDEST) // 10 * 10)


def _sex(sex: bytes) -> bytes:
    return _in_capitals(sex) if _in_capitals(sex) in {b"M", b"F", b"O"} else b""


def _one_of(words: Iterable[str]) -> re.Pattern[bytes]:
    """One of these, or nothing: a name in capitals looks like a code too."""
    return re.compile(b"|".join(re.escape(word.encode()) for word in words) + b"|")


def _some_of(words: Iterable[str], *, flags: int = 0) -> re.Pattern[bytes]:
    """Any of these, one behind the other."""
    word = b"(?:" + b"|".join(re.escape(word.encode()) for word in words) + b")"
    return re.compile(word + rb"(?:[ _.,&-]+" + word + rb")*\.?", flags)


def _known(telling: Iterable[str], beside: Iterable[str]) -> Callable[[bytes], bytes]:
    """What keeps the known words of a value, and nothing where none of them tells anything by itself."""
    told = {word.encode() for word in telling}
    every = told | {word.encode() for word in beside}

    def kept(value: bytes) -> bytes:
        value = _in_capitals(value)
        words = _WORD.findall(value)
        if told.isdisjoint(words):
            return b""
        whole = every.issuperset(words) and _WORDS.fullmatch(value)
        return value if whole else b" ".join(word for word in words if word in every)

    return kept


def _as_it_is(value: bytes) -> bytes:
    return value


def _said(vr: bytes, most: int, pattern: re.Pattern[bytes], turn: Callable[[bytes], bytes] = _unpadded) -> Kept:
    return Kept(vr, most, needed=False, pattern=pattern, turn=turn)


def _code(vr: bytes = b"CS", pattern: re.Pattern[bytes] = _CODE) -> Kept:
    return Kept(vr, 1024, pattern=pattern, turn=_in_capitals if vr == b"CS" else _unpadded)


_BINARY = Kept(b"US", 8, turn=_as_it_is)
_BINARY_TABLE = Kept(b"OW", TABLE, turn=_as_it_is)

SAID: Final[Mapping[int, Kept]] = {
    0x00080005: _said(b"CS", 64, _CHARACTERS),  # Specific Character Set
    0x00080016: _said(b"UI", 64, _UID),  # SOP Class UID
    0x00080018: _said(b"UI", 64, _UID),  # SOP Instance UID
    0x00080050: _said(b"SH", 64, _NUMBERED),  # Accession Number
    0x00080070: _said(b"LO", 128, _some_of((*_MAKERS, *_BESIDE_A_MAKER), flags=re.IGNORECASE)),  # Manufacturer
    0x00101010: _said(b"AS", 4, re.compile(rb"[0-9]{3}Y|"), _age_band),  # Patient's Age, in bands
    0x00100040: _said(b"CS", 16, _CODE, _sex),  # Patient's Sex
    0x00180015: _said(b"CS", 64, _WORDS, _known((*_BODY_PARTS, *LATERAL_WORDS), _BESIDE_A_PART)),  # Body Part Examined
    0x00185101: _said(b"CS", 64, _WORDS, _known(_VIEWS, _SIDES)),  # View Position
    0x0020000D: _said(b"UI", 64, _UID),  # Study Instance UID
    0x00200020: _said(b"CS", 16, _DIRECTIONS, _in_capitals),  # Patient Orientation
}
"""The allow-list. A value that does not look as it should is dropped, like every tag that is not named here."""

PIXELS: Final[Mapping[int, Kept]] = {
    0x00080060: _code(),  # Modality
    0x00280002: _BINARY,  # Samples per Pixel
    0x00280004: _code(pattern=_one_of(_PHOTOMETRIC)),  # Photometric Interpretation
    0x00280006: _BINARY,  # Planar Configuration
    0x00280008: _code(b"IS", _NUMBERS),  # Number of Frames
    0x00280010: _BINARY,  # Rows
    0x00280011: _BINARY,  # Columns
    0x00280100: _BINARY,  # Bits Allocated
    0x00280101: _BINARY,  # Bits Stored
    0x00280102: _BINARY,  # High Bit
    0x00280103: _BINARY,  # Pixel Representation
    **dict.fromkeys(
        (0x00280120, 0x00280121), Kept(b"US", 2, needed=False, turn=_as_it_is)
    ),  # padding: its value, its range
    0x00281050: _code(b"DS", _NUMBERS),  # Window Center
    0x00281051: _code(b"DS", _NUMBERS),  # Window Width
    0x00281052: _code(b"DS", _NUMBERS),  # Rescale Intercept
    0x00281053: _code(b"DS", _NUMBERS),  # Rescale Slope
    0x00281056: _code(pattern=_one_of(_VOI_FUNCTIONS)),  # VOI LUT Function
    **dict.fromkeys(range(0x00281101, 0x00281104), _BINARY),  # descriptors of the palette
    **dict.fromkeys(range(0x00281201, 0x00281204), _BINARY_TABLE),  # the palette
    **dict.fromkeys(range(0x00281221, 0x00281224), _BINARY_TABLE),  # the segmented palette
}
"""What the pixels mean. A value that does not look as it should makes the file damaged."""

_LUT: Final = {0x00283002: _BINARY, 0x00283006: _BINARY_TABLE}

SEQUENCES: Final[Mapping[int, Mapping[int, Kept]]] = {
    0x00283000: _LUT,  # Modality LUT Sequence
    0x00283010: _LUT,  # VOI LUT Sequence
    0x00540220: {0x00080100: _said(b"SH", 16, _one_of(LATERAL_CODES))},  # View Code Sequence: Code Value
}
"""Sequences, and which tags are kept of the first item."""

SIGNED: Final = (0x00280120, 0x00280121, 0x00281101, 0x00281102, 0x00281103, 0x00283002)
"""Padding and descriptors that are SS where pixels are signed."""

BYTE_ORDERED: Final = (b"OB", b"OW", b"SS")
"""VRs that the file may choose instead of the one above."""
