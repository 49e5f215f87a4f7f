"""Ground truth: each row has its own answer, good rows are kept, the newest holds, and nothing is ever taken back."""

from collections.abc import Mapping
from typing import Any, cast

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DBAPIError

from db import batches, labels, proof, tenancy
from db.batches import Item
from db.chains import AuditRow
from db.database import Database
from db.labels import Given, GroundTruth, Source, Truth
from db.tables import Image, Lane
from tests.uploading import Api, Radiograph

SHA = "a" * 64
BY = {"source": "rt_pcr", "given_by": "laboratory"}


def given(label: Truth = Truth.POSITIVE, **of: Any) -> Given:
    return Given(label, Source.RT_PCR, "laboratory", **of)


def submitted(database: Database, *sha256s: str, accession: str | None = None) -> None:
    with database.of(tenancy.DEFAULT).write() as session:
        items = [Item(f"{sha256[:4]}.png", sha256, 1, "image/png") for sha256 in sha256s]
        batches.add(session, items, lane=Lane.ROUTINE, actor="test")
        session.execute(update(Image).where(Image.sha256.in_(sha256s)).values(accession=accession))


def held(database: Database) -> dict[str, str]:
    """The label that holds, by the image's bytes."""
    found = labels.holding()
    statement = (
        select(Image.sha256, GroundTruth.label)
        .join(found, found.c.image_id == Image.id)
        .join(GroundTruth, GroundTruth.id == found.c.label_id)
    )
    with database.read() as session:
        return {row.sha256: row.label for row in session.execute(statement)}


@pytest.mark.usefixtures("champion")
def test_the_newest_label_of_an_image_holds_whether_it_came_by_image_or_by_study(database: Database) -> None:
    submitted(database, SHA, "b" * 64, accession="A-1")
    for row in (
        given(accession="A-1"),
        given(Truth.NEGATIVE, image_sha256=SHA),
        given(Truth.NEGATIVE, accession="A-1"),
        given(image_sha256=SHA),
    ):
        with database.of(tenancy.DEFAULT).write() as session:
            assert labels.give(session, [row], actor="test")[0].label
    assert held(database) == {SHA: "positive", "b" * 64: "negative"}
    with database.read() as session:
        assert [label.label for label in labels.newest(session, limit=10)] == [
            "positive",
            "negative",
            "negative",
            "positive",
        ]


@pytest.mark.usefixtures("champion")
def test_of_two_that_contradict_each_other_in_one_call_the_later_row_holds(database: Database) -> None:
    submitted(database, SHA)
    with database.of(tenancy.DEFAULT).write() as session:
        labels.give(session, [given(image_sha256=SHA), given(Truth.NEGATIVE, image_sha256=SHA)], actor="test")
    assert held(database) == {SHA: "negative"}


@pytest.mark.usefixtures("champion")
def test_a_study_may_have_its_label_before_its_images_come(database: Database) -> None:
    with database.of(tenancy.DEFAULT).write() as session:
        (kept,) = labels.give(session, [given(accession="A-2")], actor="test")
    assert (kept.images, held(database)) == (0, {})
    submitted(database, SHA, accession="A-2")
    assert held(database) == {SHA: "positive"}


def test_a_label_cannot_be_changed_or_taken_back(database: Database) -> None:
    with database.of(tenancy.DEFAULT).write() as session:
        labels.give(session, [given(accession="A-3")], actor="test")
    for change in (update(GroundTruth).values(label="negative"), delete(GroundTruth)):
        with pytest.raises(DBAPIError, match="only added"), database.write() as session:
            session.execute(change)


def test_the_audit_has_each_label_without_the_study_and_the_patient(database: Database) -> None:
    with database.of(tenancy.DEFAULT).write() as session:
        labels.give(session, [given(accession="A-4", patient="P-9")], actor="test")
    with database.read() as session:
        (row,) = session.scalars(select(AuditRow).where(AuditRow.action == "label.given"))
        assert (row.actor, row.subject) == ("test", "label:1")
        assert "A-4" not in row.detail
        assert "P-9" not in row.detail
        assert proof.verify(session).problem is None


# Over HTTP


def post(api: Api, rows: Any) -> Any:
    return api.client.post("/v1/labels", json={"labels": rows})


def listed(api: Api, **query: Any) -> Any:
    return cast(Any, api.client.get("/v1/labels", query_string=query)).json


BAD: dict[str, Mapping[str, Any]] = {
    "exactly one": {"label": "positive", **BY},
    "exactly one of": {"label": "positive", "accession": "A", "image_sha256": SHA, **BY},
    "label": {"label": "perhaps", "accession": "A", **BY},
    "source": {"label": "positive", "accession": "A", "source": "rumour", "given_by": "x"},
    "given_by": {"label": "positive", "accession": "A", "source": "rt_pcr"},
    "found_at": {"label": "positive", "accession": "A", "found_at": "2026-11-22T08:00:00", **BY},
    "colour": {"label": "positive", "accession": "A", "colour": "red", **BY},
    "no image": {"label": "positive", "image_sha256": "f" * 64, **BY},
    "no result": {"label": "positive", "result_id": "result_00", **BY},
}


@pytest.mark.parametrize("words", BAD)
def test_a_bad_row_is_refused_by_itself_and_says_why(api: Api, words: str) -> None:
    good = {"label": "positive", "accession": "A", **BY}
    answer = post(api, [good, BAD[words], good])
    assert answer.status_code == 200
    assert [(row["row"], row["status"]) for row in answer.json["rows"]] == [(1, 200), (2, 422), (3, 200)]
    assert words in answer.json["rows"][1]["detail"]
    assert len(listed(api)["data"]) == 2


def test_where_no_row_is_good_the_answer_is_422_with_all_the_reasons(api: Api) -> None:
    answer = post(api, list(BAD.values()))
    assert (answer.status_code, answer.json["code"]) == (422, "labels_refused")
    assert [row["status"] for row in answer.json["rows"]] == [422] * len(BAD)
    assert listed(api)["data"] == []


def test_the_same_as_csv(api: Api, radiograph: Radiograph) -> None:
    assert api.submit({"one.png": radiograph(1)}).status_code == 202
    sha256 = api.images()[0].sha256
    table = (
        "label,source,given_by,accession,image_sha256,patient,found_at\n"
        f"positive,radiologist,Dr B,,{sha256},P-1,2026-11-22T08:00:00Z\n"
        "maybe,radiologist,Dr B,A-7,,,\n"
        "negative,rt_pcr,laboratory,A-7,,,\n"
        "negative,rt_pcr,laboratory,A-7,,,,,too many\n"
    )
    answer: Any = api.client.post("/v1/labels", data="\ufeff" + table, content_type="text/csv")
    assert [(row["status"], row["images"]) for row in answer.json["rows"]] == [(200, 1), (422, 0), (200, 0), (422, 0)]
    (kept,) = listed(api, image_sha256=sha256)["data"]
    assert (kept["label"], kept["source"], kept["given_by"]) == ("positive", "radiologist", "Dr B")
    assert kept["patient"] == labels.pseudonym("P-1")
    assert kept["found_at"].startswith("2026-11-22T08:00:00")


def test_the_history_comes_in_pages(api: Api) -> None:
    post(api, [{"label": "positive", "accession": f"A-{number}", **BY} for number in range(5)])
    seen, after = [], None
    while True:
        page = listed(api, limit=2, **({"after": after} if after else {}))
        seen += [label["accession"] for label in page["data"]]
        if not page["has_more"]:
            break
        after = page["after"]
    assert seen == ["A-4", "A-3", "A-2", "A-1", "A-0"]


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_body"),
        (b"[]", "application/json", 400, "malformed_body"),
        (b"\xff\xfe", "text/csv", 400, "malformed_body"),
        (b'{"labels": []}', "application/json", 422, "labels_count"),
        (b"label\n", "text/csv", 422, "labels_count"),
        (b"x", "application/xml", 415, "unsupported_media_type"),
        (b"x" * 10_000_001, "text/csv", 413, "too_large"),
    ],
)
def test_a_body_that_holds_no_labels_is_refused_whole(api: Api, body: bytes, kind: str, status: int, code: str) -> None:
    answer = api.client.post("/v1/labels", data=body, content_type=kind)
    assert (answer.status_code, answer.get_json(force=True)["code"]) == (status, code)
