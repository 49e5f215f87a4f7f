"""The gate: frontal chest X-rays pass, all else is stopped with its reasons, and nothing that is stopped has a number."""

import csv
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import select

from db.chains import AuditRow
from db.tables import ImageState, Label, Result
from tests.dicoms import radiograph as dicom_radiograph
from tests.dicoms import written
from tests.pictures import saved
from tests.project import COVID_CXR
from tests.service import Service
from tests.test_formats import CALLED, FILES, RADIOGRAPHS
from training import data, index, pictures
from training.phantoms import phantom
from training.strangers import KINDS, strangers
from worker import gate
from worker.gate import Gate, GateDamaged
from worker.radiograph import SIZE, Grey, decode
from worker.rejection import NOT_FRONTAL, REASONS, UNDECIDED

TEST_FOLD, SEED = 5, 2026  # the gate was fitted on folds 0-3 and seed 11
NONE_OF_OURS = (ImageState.CLASSIFIED, Label.INCONCLUSIVE, None)


@pytest.fixture(scope="module")
def shipped() -> Gate:
    return Gate(batch_size=64)


@pytest.fixture(scope="module")
def frontal() -> NDArray[np.uint8]:
    """The radiographs of the fold that nothing was fitted on or chosen by."""
    if not COVID_CXR.is_dir():
        pytest.skip("../shared/data/covid-cxr is not here")
    return data.load(COVID_CXR, [entry for entry in index.index(COVID_CXR) if entry.fold == TEST_FOLD]).greys


def drawn(seed: int) -> Grey:
    return decode(saved(Image.fromarray(phantom(seed))))


def test_of_a_hundred_frontal_radiographs_at_least_99_pass(shipped: Gate, frontal: NDArray[np.uint8]) -> None:
    judged = shipped.judge(list(frontal))
    assert sum(not reasons for reasons in judged) >= 0.99 * len(frontal)


def test_of_a_hundred_other_pictures_at_least_98_are_stopped(shipped: Gate, frontal: NDArray[np.uint8]) -> None:
    """Of 18 kinds, made of radiographs, pictures and a seed that the gate has not seen."""
    others, kinds = strangers(list(frontal), pictures.half(1), count=100 * len(KINDS), seed=SEED)
    stopped = np.array([bool(reasons) for reasons in shipped.judge(list(others))])
    assert stopped.mean() >= 0.98
    assert set(kinds) == set(KINDS)
    for kind in KINDS:
        assert stopped[np.array(kinds) == kind].mean() >= 0.85, kind


def test_inverted_and_turned_radiographs_are_called_so(shipped: Gate, frontal: NDArray[np.uint8]) -> None:
    inverted = shipped.judge(list(255 - frontal))
    turned = shipped.judge([np.rot90(grey, place % 3 + 1) for place, grey in enumerate(frontal)])
    assert sum("inverted" in reasons for reasons in inverted) >= 0.95 * len(frontal)
    assert sum("turned" in reasons for reasons in turned) >= 0.95 * len(frontal)


def test_without_any_data_drawings_pass_and_their_negatives_do_not(shipped: Gate) -> None:
    drawings = [drawn(seed) for seed in range(30)]
    assert shipped.judge(drawings) == [()] * 30
    assert {reasons[1:] for reasons in shipped.judge([255 - grey for grey in drawings])} == {("inverted",)}


def test_pictures_of_all_kinds_are_stopped(shipped: Gate) -> None:
    whole = [decode(saved(Image.fromarray(picture))) for picture in pictures.half(0) + pictures.half(1)]
    stopped = [bool(reasons) for reasons in shipped.judge(whole)]
    assert sum(stopped) >= 0.98 * len(whole) > 30


def test_other_peoples_sections_and_ultrasound_are_stopped(shipped: Gate) -> None:
    """Real CT, MR, ultrasound and screen captures that pydicom brings; the gate has seen none of them."""
    greys = []
    for name, file in CALLED.items():
        if name not in RADIOGRAPHS:
            try:
                greys.append(decode(file))
            except Exception:  # noqa: BLE001, S112 - test_formats has a word on those
                continue
    assert len(greys) > 50
    assert all(shipped.judge(greys))


def test_other_peoples_radiographs_of_a_neck_are_stopped_by_what_they_show_too(shipped: Gate) -> None:
    judged = shipped.judge([decode(FILES[name].read_bytes()) for name in RADIOGRAPHS])
    assert {reasons[0] for reasons in judged} == {NOT_FRONTAL}


@pytest.mark.parametrize("level", [0, 1, 127, 255])
def test_what_is_blank_is_called_so(shipped: Gate, level: int) -> None:
    assert shipped.judge([np.full((SIZE, SIZE), level, np.uint8)]) == [("not_a_frontal_chest_xray", "blank")]


def test_as_many_answers_as_pictures_whatever_their_number(shipped: Gate) -> None:
    grey, noise = drawn(1), np.random.default_rng(1).integers(0, 256, (SIZE, SIZE), np.uint8)
    for number in (0, 1, 7, 8, 9, 64, 65, 150):
        judged = shipped.judge([grey, noise] * number)
        assert [bool(reasons) for reasons in judged] == [False, True] * number


def test_damaged_weights_are_never_used() -> None:
    card = gate.card()
    assert hashlib.sha256(gate.WEIGHTS.read_bytes()).hexdigest() == card.weights_sha256
    with pytest.raises(GateDamaged, match="install"):
        gate.loaded(gate.WEIGHTS.read_bytes(), replace(card, weights_sha256="0" * 64))


def test_the_network_is_as_small_as_it_says() -> None:
    assert gate.build().count_params() == 22_017


# Through the whole service


def files() -> dict[str, bytes]:
    noise = np.random.default_rng(1).integers(0, 256, (300, 300), np.uint8)
    return {
        "frontal.png": saved(Image.fromarray(phantom(3))),
        "inverted.png": saved(Image.fromarray(255 - phantom(3))),
        "lying.png": saved(Image.fromarray(np.rot90(phantom(3)))),
        "blank.png": saved(Image.fromarray(np.full((300, 300), 40, np.uint8))),
        "noise.png": saved(Image.fromarray(noise)),
        "lateral.dcm": written(dicom_radiograph(phantom(3), ViewPosition="LL")),
        "hand.dcm": written(dicom_radiograph(phantom(3), BodyPartExamined="HAND")),
        "chest.dcm": written(dicom_radiograph(phantom(3), BodyPartExamined="CHEST", ViewPosition="PA")),
    }


def test_what_is_stopped_is_inconclusive_with_reasons_and_has_no_number_anywhere(service: Service) -> None:
    batch_id = service.submit(files())
    lines = {line.custom_id: line for line in service.wait(batch_id)}
    passed = {name for name, line in lines.items() if line.probability is not None}
    assert passed == {"frontal.png", "chest.dcm"}
    assert all(set(lines[name].reasons or ()) <= {UNDECIDED} for name in passed), "the gate has nothing against them"
    assert {(lines[name].state, lines[name].label, lines[name].probability) for name in set(lines) - passed} == {
        NONE_OF_OURS
    }
    strange = "not_a_frontal_chest_xray"
    assert {name: lines[name].reasons for name in set(lines) - passed} == {
        "inverted.png": [strange, "inverted"],
        "lying.png": [strange, "turned"],
        "blank.png": [strange, "blank"],
        "noise.png": [strange],
        "lateral.dcm": ["lateral_view"],
        "hand.dcm": ["other_body_part"],
    }
    _nothing_has_a_number(service, batch_id, len(lines) - len(passed))


def _nothing_has_a_number(service: Service, batch_id: str, count: int) -> None:
    with service.database.read() as session:
        found = session.scalars(select(Result).where(Result.batch_id == batch_id, Result.label == "inconclusive"))
        stopped = [one for one in found if one.reasons != [UNDECIDED]]
        audited = session.scalars(
            select(AuditRow.detail).where(AuditRow.batch_id == batch_id, AuditRow.action == "image.classified")
        ).all()
    assert [(one.raw_probability, one.probability, one.gate) for one in stopped] == [
        (None, None, gate.card().version)
    ] * count
    assert sum(json.loads(detail)["probability"] is None for detail in audited) == count
    told = service.http.get(f"/v1/batches/{batch_id}/results").json()["data"]
    assert sum(one["probability"] is None for one in told) == count
    assert {one["gate"] for one in told} == {gate.card().version}
    rows = list(csv.DictReader(service.http.get(f"/v1/batches/{batch_id}/results.csv").text.splitlines()))
    assert sum(row["probability"] == "" and row["label"] == "inconclusive" for row in rows) == count
    assert rows[1]["reasons"] == "not_a_frontal_chest_xray inverted"
    page = service.http.get(f"/batches/{batch_id}").text
    assert str(REASONS["inverted"]) in page
