"""Every look at a result leaves a row before it is shown: who, when, what, from where."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import OperationalError

from db import audit, confirmation, heatmaps, queue
from db.chains import AuditRow
from db.identifiers import Identifiers
from db.tables import Lane
from tests.queueing import finding
from tests.uploading import Api, Radiograph

NOBODY = Identifiers("1.2", "1.2.3", "ACC-4711")


@pytest.fixture
def classified(api: Api, radiograph: Radiograph) -> Api:
    """One batch of three images with results, and one of one that waits."""
    api.submit({f"{number}.png": radiograph(number) for number in range(3)})
    with api.parts.database.write() as session:
        held = queue.claim(session, Lane.ROUTINE, 3, lease_seconds=60, alone=False)
        assert held
        queue.finish(session, held, [finding(image, NOBODY) for image in held.images], [], worker="w1")
    api.submit({"waiting.png": radiograph(9)})
    return api


@pytest.fixture
def batch(classified: Api) -> str:
    return classified.images()[0].batch_id


@pytest.fixture
def result(classified: Api) -> str:
    newest: Any = classified.client.get("/v1/results?limit=1").json
    return str(newest["data"][0]["id"])


def looks(api: Api) -> list[AuditRow]:
    with api.parts.database.read() as session:
        rows = list(session.scalars(select(AuditRow).order_by(AuditRow.seq)))
    return [row for row in rows if row.action.split(".")[1] in {"viewed", "exported", "searched"}]


def test_one_result_is_one_look_with_who_when_what_and_from_where(classified: Api, batch: str, result: str) -> None:
    before = len(looks(classified))
    classified.client.get(f"/v1/results/{result}", environ_base={"REMOTE_ADDR": "10.1.2.3"})
    (look,) = looks(classified)[before:]
    assert (look.actor, look.origin, look.action) == (classified.actor, "10.1.2.3", "result.viewed")
    assert (look.subject, look.batch_id) == (result, batch)
    assert look.at.endswith("+00:00")


@pytest.mark.parametrize(
    ("path", "action"),
    [
        ("/v1/batches/{batch}/images", "results.viewed"),
        ("/v1/batches/{batch}/images/1.png", "result.viewed"),
        ("/v1/batches/{batch}/results", "results.exported"),
        ("/v1/batches/{batch}/results.csv", "results.exported"),
        ("/v1/batches/{batch}/results.ndjson", "results.exported"),
        ("/v1/results", "results.searched"),
        ("/v1/results/{result}", "result.viewed"),
        ("/v1/results/{result}/history", "audit.viewed"),
        ("/v1/audit", "audit.viewed"),
        ("/v1/audit?chain=installation", "audit.viewed"),
        ("/batches/{batch}", "results.viewed"),
    ],
)
def test_whatever_shows_results_is_one_row_and_not_one_for_each_image(
    classified: Api, batch: str, result: str, path: str, action: str
) -> None:
    before = len(looks(classified))
    assert classified.client.get(path.format(batch=batch, result=result)).status_code == 200
    assert [look.action for look in looks(classified)[before:]] == [action]


def test_a_heatmap_is_a_look_once_it_is_there(classified: Api, batch: str, result: str) -> None:
    before = len(looks(classified))
    address = f"/v1/results/{result}/heatmap.png"
    assert classified.client.get(address).status_code == 202
    assert len(looks(classified)) == before
    made = heatmaps.path(classified.parts.blobs, batch, result)
    made.parent.mkdir(parents=True)
    made.write_bytes(b"png")
    assert classified.client.get(address).status_code == 200
    assert [(look.action, look.subject) for look in looks(classified)[before:]] == [("result.viewed", result)]


def test_what_verifying_found_is_a_look_once_there_is_something(classified: Api, batch: str, result: str) -> None:
    before = len(looks(classified))
    address = f"/v1/results/{result}/verifications"
    assert classified.client.get(address).json == {"data": []}
    assert len(looks(classified)) == before
    with classified.parts.database.write() as session:
        audit.append(session, "w1", [audit.Entry(confirmation.VERIFIED, result, batch, {"confirmed": True})])
    assert [one["confirmed"] for one in classified.client.get(address).json["data"]] == [True]  # type: ignore[index]
    assert [(look.action, look.subject) for look in looks(classified)[before:]] == [("result.viewed", result)]


@pytest.mark.parametrize(
    "path", ["/", "/v1/batches", "/v1/batches/{batch}", "/v1/batches/{waiting}/images", "/v1/limits", "/readyz"]
)
def test_what_shows_no_result_is_no_look(classified: Api, batch: str, path: str) -> None:
    waiting = classified.images()[-1].batch_id
    assert classified.client.get(path.format(batch=batch, waiting=waiting)).status_code in {200, 503}
    assert looks(classified) == []


def test_a_page_that_refreshes_itself_is_one_look(classified: Api, batch: str) -> None:
    for _ in range(5):
        assert classified.client.get(f"/batches/{batch}").status_code == 200
    assert len(looks(classified)) == 1
    classified.client.get(f"/batches/{batch}", environ_base={"REMOTE_ADDR": "10.9.9.9"})
    assert [look.origin for look in looks(classified)] == ["127.0.0.1", "10.9.9.9"]


def test_a_search_says_which_results_it_showed_and_never_whose(classified: Api) -> None:
    answer: Any = classified.client.get("/v1/results?accession=ACC-4711&limit=2").json
    (look,) = looks(classified)
    assert json.loads(look.detail) == {"by": ["accession", "limit"], "results": [one["id"] for one in answer["data"]]}
    with classified.parts.database.read() as session:
        assert not [row for row in session.scalars(select(AuditRow.detail)) if "ACC-4711" in row]


@pytest.fixture
def full(classified: Api) -> Iterator[Api]:
    """A database that takes no more rows of the audit."""

    def refuse(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO audit"):
            raise OperationalError(statement, {}, Exception("database or disk is full"))

    event.listen(classified.parts.database.engine, "before_cursor_execute", refuse)
    yield classified
    event.remove(classified.parts.database.engine, "before_cursor_execute", refuse)


def test_a_look_that_cannot_be_written_down_shows_nothing(batch: str, result: str, full: Api) -> None:
    paths = (f"/v1/results/{result}", f"/v1/batches/{batch}/results.csv", f"/batches/{batch}", "/v1/results")
    for path in paths:
        answer = full.client.get(path)
        assert (answer.status_code, "negative" in answer.text) == (507, False), path
    assert full.client.get(f"/v1/batches/{batch}").status_code == 200, "polling needs no row"


@pytest.mark.sqlite
def test_a_search_for_the_looks_at_one_result_uses_the_index(classified: Api) -> None:
    with classified.parts.database.read() as session:
        plan = session.execute(
            text("EXPLAIN QUERY PLAN SELECT * FROM audit WHERE audit.action = 'results.searched' AND detail LIKE '%x%'")
        ).all()
    assert "ix_audit_searches" in str(plan)
