"""What names a person goes at the door: out of tags, chunks and segments, and from behind the pixels."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests import dicoms as made
from tests.planted import NAME, PATIENT, named, planted
from tests.test_door import cleaned, rejection
from worker.radiograph import decode

PLANTED = planted()


@pytest.mark.parametrize("place", PLANTED)
def test_a_planted_name_is_gone_and_the_pixels_are_not(place: str) -> None:
    data = PLANTED[place]
    assert NAME in data
    kept = cleaned(data)
    assert not PATIENT.search(kept)
    np.testing.assert_array_equal(decode(kept), decode(data))
    for size in (4096, 61):
        assert cleaned(data, size=size) == kept


@pytest.mark.parametrize("tag", ["PhotometricInterpretation", "VOILUTFunction"])
def test_a_name_where_the_pixels_need_a_word_is_refused(tag: str) -> None:
    dataset = made.radiograph()
    setattr(dataset, tag, NAME.upper().decode())
    assert rejection(made.written(dataset)) == "truncated"


@pytest.mark.parametrize(
    ("part", "kept"),
    [("CHEST", "CHEST"), ("CHEST_PA", "CHEST_PA"), ("PORT CHEST", "PORT CHEST"), ("RIBS", "RIBS"),
     ("LEFT HAND", "LEFT HAND"), ("CHEST ERIKA", "CHEST"), ("HAND_ERIKA", "HAND"), ("ERIKA", None), ("LEFT ERIKA", None)],
)  # fmt: skip
def test_a_body_part_is_kept_in_the_standards_words_alone(part: str, kept: str | None, tmp_path: Path) -> None:
    path = tmp_path / "kept.dcm"
    path.write_bytes(cleaned(made.written(made.radiograph(BodyPartExamined=part))))
    assert dcmread(path).get("BodyPartExamined") == kept


@pytest.mark.parametrize(
    ("tag", "value", "kept"),
    [("Manufacturer", "FUJI PHOTO FILM Co., ltd.", True), ("Manufacturer", "Siemens Healthineers", True),
     ("Manufacturer", "GE MEDICAL SYSTEMS", True), ("Manufacturer", "Philips Medical Systems Erika", False),
     ("AccessionNumber", "RAD-2026/4711", True), ("AccessionNumber", "Erika", False), ("AccessionNumber", "E^1", False)],
)  # fmt: skip
def test_a_word_of_the_senders_is_kept_where_it_looks_as_it_should(
    tag: str, value: str, *, kept: bool, tmp_path: Path
) -> None:
    path = tmp_path / "kept.dcm"
    dataset = made.radiograph()
    setattr(dataset, tag, value)
    path.write_bytes(cleaned(made.written(dataset)))
    assert dcmread(path).get(tag) == (value if kept else None)


def test_the_tags_on_the_list_stay_and_age_becomes_a_band(tmp_path: Path) -> None:
    dataset = named()
    dataset.PatientAge, dataset.PatientSex, dataset.BodyPartExamined, dataset.ViewPosition = "047Y", "F", "CHEST", "PA"
    dataset.AccessionNumber, dataset.Manufacturer = "A-1", "SIEMENS"
    path = tmp_path / "kept.dcm"
    path.write_bytes(cleaned(made.written(dataset)))
    kept = dcmread(path)
    assert (kept.AccessionNumber, kept.StudyInstanceUID, kept.SOPInstanceUID) == ("A-1", "1.2.3", "1.2.3.4")
    assert (kept.PatientAge, kept.PatientSex, kept.BodyPartExamined) == ("040Y", "F", "CHEST")
    assert (kept.ViewPosition, kept.Manufacturer) == ("PA", "SIEMENS")
    assert {element.keyword for element in kept if element.tag.group in {0x08, 0x10, 0x18, 0x20}} == {
        *("SOPClassUID", "SOPInstanceUID", "Modality", "Manufacturer", "AccessionNumber", "StudyInstanceUID"),
        *("PatientSex", "PatientAge", "BodyPartExamined", "ViewPosition"),
    }
    assert path.read_bytes()[:128] == bytes(128)


@pytest.mark.parametrize(("age", "band"), [("003M", "000Y"), ("089Y", "080Y"), ("090Y", "090Y"), ("104Y", "090Y")])
def test_ages_are_kept_in_bands_of_ten_years(tmp_path: Path, age: str, band: str) -> None:
    path = tmp_path / "kept.dcm"
    path.write_bytes(cleaned(made.written(made.radiograph(PatientAge=age))))
    assert dcmread(path).PatientAge == band


def test_what_is_no_age_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "kept.dcm"
    path.write_bytes(cleaned(made.written(made.radiograph(PatientAge="047Y")).replace(b"047Y", b"Erik")))
    assert "PatientAge" not in dcmread(path)
