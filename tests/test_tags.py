"""What DICOM tags say is heard however it is written, through the door and behind it."""

from typing import Any

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.dicoms import radiograph, written
from tests.test_door import cleaned
from worker import dicom
from worker.formats import LATERAL_CODES
from worker.rejection import LATERAL_VIEW, OTHER_BODY_PART

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")  # pydicom's, as the files are written


def told(dataset: Dataset) -> dicom.Told:
    return dicom.told(cleaned(written(dataset)))


@pytest.mark.parametrize(
    "written_as", ["LL", "ll", "LL\0\0", " Lateral \0", "lat", "LLAT", "L LAT", "LAT_L", "LEFT LATERAL", "Chest lat."]
)
def test_a_lateral_view_is_one_however_it_is_written(written_as: str) -> None:
    assert told(radiograph(ViewPosition=written_as)).marks == (LATERAL_VIEW,)


@pytest.mark.parametrize("view", ["LAT DECUB", "AP LAT DECUB", "LAT DECUBITUS", "LLD", "LAT+PA", "PA"])
def test_a_frontal_view_is_none_of_the_side_that_the_patient_lies_on(view: str) -> None:
    assert told(radiograph(ViewPosition=view)).marks == ()


@pytest.mark.parametrize("part", ["CHEST PA LAT", "CHEST PA/LAT", "CXR AP AND LAT"])
def test_two_views_in_one_name_are_of_the_study(part: str) -> None:
    assert told(radiograph(BodyPartExamined=part)).marks == ()
    assert told(radiograph(BodyPartExamined="CHEST LAT", ViewPosition="PA")).marks == ()


@pytest.mark.parametrize(
    "part", ["CXR", "TORAX", "CXR ABD", "ARMS DOWN CXR", "TORAX ABDOMEN", "CHEST 2", "CHSTX BACKX"]
)
def test_a_chest_with_something_beside_it_is_one(part: str) -> None:
    assert told(radiograph(BodyPartExamined=part)).marks == ()


@pytest.mark.parametrize("part", ["CHEST LAT", "Chest_Lateral", "THORAX (LAT) X", "CHEST LAT 2"])
def test_a_lateral_view_is_one_beside_the_body_part(part: str) -> None:
    assert told(radiograph(BodyPartExamined=part)).marks == (LATERAL_VIEW,)


@pytest.mark.parametrize("directions", [["A", "F"], ["P", "F"], ["PL", "FA"], ["L", "P"], ["ah", "f"]])
def test_rows_that_run_from_front_to_back_are_of_a_lateral_view(directions: list[str]) -> None:
    assert told(radiograph(PatientOrientation=directions)).marks == (LATERAL_VIEW,)


@pytest.mark.parametrize("directions", [["L", "F"], ["R", "F"], ["LA", "FP"], ["DOE", "ERIKA"], ["A"], []])
def test_other_directions_say_nothing(directions: list[str]) -> None:
    kept = cleaned(written(radiograph(PatientOrientation=directions)))
    assert (dicom.told(kept).marks, b"DOE" in kept) == ((), False)


@pytest.mark.parametrize(
    "written_as", ["HAND\0\0", "hand", "Hand ", "Hand_Fingers", "ABD", "HIPS", "ERIKA'S HAND", "KNEE 2"]
)
def test_another_body_part_is_one_however_it_is_written(written_as: str) -> None:
    assert told(radiograph(BodyPartExamined=written_as)).marks == (OTHER_BODY_PART,)


@pytest.mark.parametrize("written_as", ["A-1\0", "A-1 \0\0", " A-1"])
def test_an_accession_number_is_found_without_what_pads_it(written_as: str) -> None:
    assert told(radiograph(AccessionNumber=written_as)).identifiers.accession == "A-1"


@pytest.mark.parametrize("written_as", ["cr", "Dx", "CR\0\0"])
def test_a_modality_is_one_however_it_is_written(written_as: str) -> None:
    assert dicom.grey(cleaned(written(radiograph(Modality=written_as))), max_pixels=1 << 20).any()


LATERALS = [codes.SCT.LateralProjection, codes.SCT.RightLateral, codes.SCT.LeftLateral]
LATERALS += [codes.SCT.LateralMedial, codes.SCT.MedioLateralProjection]


def view(code: str, **tags: Any) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "SCT", "Doe^Jane"
    for name, value in tags.items():
        setattr(item, name, value)
    return radiograph(Modality="DX", ViewCodeSequence=Sequence([item]))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("undefined_length", [False, True])
def test_a_lateral_view_is_told_by_its_code(syntax: UID, undefined_length: bool) -> None:
    """View Code Sequence is where DX tells its view (PS3.3, C.8.11.5)."""
    assert {code.value for code in LATERALS} < LATERAL_CODES
    for code in LATERAL_CODES:
        dataset = view(code)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset["ViewCodeSequence"].is_undefined_length = undefined_length
        kept = cleaned(written(dataset))
        assert dicom.told(kept).marks == (LATERAL_VIEW,)
        assert b"Doe" not in kept


@pytest.mark.parametrize("code", [codes.SCT.PosteroAnterior.value, codes.SCT.AnteroPosterior.value, "", "Doe^Jane"])
def test_another_code_says_nothing_and_stays_outside(code: str) -> None:
    modifier = Dataset()
    modifier.CodeValue = codes.SCT.LateralProjection.value  # of the view, not the view
    kept = cleaned(written(view(code, ViewModifierCodeSequence=Sequence([modifier]))))
    assert dicom.told(kept).marks == ()
    assert b"Doe" not in kept
    assert cleaned(kept) == kept


def test_a_damaged_view_code_costs_the_view_alone() -> None:
    data = bytearray(written(view("399067008")))
    item = data.index(b"\x54\x00\x20\x02") + 20
    data[item : item + 8] = b"\xff" * 8
    assert dicom.told(cleaned(bytes(data))).marks == ()
