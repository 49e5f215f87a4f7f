"""What the trainer is asked for: one run of each kind at a time, a recall before retraining, and who may ask."""

from typing import Any

import pytest
from sqlalchemy import select

from api.wiring import Parts
from db import amendments, duties, reclassification, registry, runs
from db.blobs import Blobs
from db.chains import AuditRow
from db.database import Database
from db.keys import Scope
from db.reclassification import ReclassificationRun, SameVersion
from db.retraining import RetrainingRun
from db.runs import LeaseLost, RunUnfinished
from db.tables import Result
from tests.access import key
from tests.queueing import finding, finish, submit, taken
from tests.service import CARD
from tests.uploading import Api

OTHER = registry.Card(**vars(CARD) | {"version": "test-2"})


@pytest.fixture
def two(database: Database, blobs: Blobs, champion: registry.Card) -> Database:
    """Two versions, and three images that the first classified."""
    assert champion
    with database.write() as session:
        registry.register(session, blobs, OTHER, b"weights", actor="test")
    submit(database, 3)
    finish(database, taken(database))
    return database


def ask(database: Database, old: str = CARD.version, new: str = OTHER.version) -> ReclassificationRun:
    with database.write() as session:
        return reclassification.ask(session, old_version=old, new_version=new, dry_run=False, actor="test")


def claim(database: Database, *, lease_seconds: int = 60) -> ReclassificationRun:
    with database.write() as session:
        run = duties.claim(session, lease_seconds=lease_seconds, actor="t")
    assert isinstance(run, ReclassificationRun)
    return run


def test_a_recall_goes_before_retraining_and_each_waits_for_its_own_kind_alone(two: Database) -> None:
    with two.write() as session:
        assert not duties.any_unfinished(session)
        runs.ask(session, RetrainingRun, actor="test")
    first = ask(two)
    with pytest.raises(RunUnfinished, match=first.id):
        ask(two)
    assert claim(two).id == first.id
    with two.write() as session:
        assert isinstance(duties.claim(session, lease_seconds=-1, actor="t"), RetrainingRun)
    with two.write() as session:
        assert (duties.any_unfinished(session), duties.any_abandoned(session)) == (True, True)


def test_what_names_no_two_versions_is_refused(two: Database) -> None:
    for old, new in (("nothing", OTHER.version), (CARD.version, "nothing"), ("a\0b", CARD.version)):
        with pytest.raises(registry.VersionUnknown):
            ask(two, old, new)
    with pytest.raises(SameVersion):
        ask(two, CARD.version, CARD.version)
    with two.read() as session:
        assert not duties.any_unfinished(session)


def test_amendments_and_what_the_run_says_of_them_are_kept_together_or_not_at_all(two: Database) -> None:
    ask(two)
    first, second = claim(two, lease_seconds=-1), claim(two)
    with two.read() as session:
        some = amendments.outdated(session, CARD.version, OTHER.version, after="", limit=9)
    seen = [(one, finding(one.image)) for one in some]
    with pytest.raises(LeaseLost), two.write() as session:
        assert len(amendments.store(session, first, seen, worker="late")) == 3
        runs.hold_on(session, first, lease_seconds=60, done=3)
    for kept in (3, 0):
        with two.write() as session:
            assert len(amendments.store(session, second, seen, worker="t")) == kept
            runs.hold_on(session, second, lease_seconds=60, done=3, changes={"negative": {"negative": 3}})
    with two.read() as session:
        assert {row.worker for row in session.scalars(select(Result).where(Result.amends.is_not(None)))} == {"t"}
        assert len(session.scalars(select(AuditRow).where(AuditRow.action == "result.amended")).all()) == 3
        run = runs.find(session, ReclassificationRun, second.id)
        assert run
        assert (run.done, run.changes, run.attempts) == (3, {"negative": {"negative": 3}}, 2)


# Over HTTP


def call(api: Api, path: str = "", **more: Any) -> Any:
    return api.client.open(f"/v1/reclassifications{path}", **more)


def wanted(**more: Any) -> dict[str, Any]:
    return {"method": "POST", "json": {"model": CARD.version, "with": OTHER.version} | more}


@pytest.fixture
def api(api: Api) -> Api:
    parts: Parts = api.parts
    with parts.system.write() as session:
        registry.register(session, parts.blobs, OTHER, b"weights", actor="test")
    return api


def test_a_recall_is_asked_for_seen_listed_and_cancelled(api: Api) -> None:
    asked = call(api, **wanted(dry_run=True))
    run_id = asked.json["id"]
    assert (asked.status_code, asked.headers["Location"]) == (202, f"/v1/reclassifications/{run_id}")
    told = asked.json
    assert (told["model"], told["with"], told["dry_run"]) == (CARD.version, OTHER.version, True)
    assert (told["state"], told["actor"], told["done"], told["changes"]) == ("queued", api.actor, 0, {})
    again = call(api, **wanted())
    assert (again.status_code, again.json["code"], again.json["run"]) == (409, "reclassification_unfinished", run_id)
    assert "cxr_reclassification_unfinished 1" in api.client.get("/metrics").text
    assert call(api, f"/{run_id}").json == told
    assert call(api, f"/{run_id}/cancel", method="POST").json["state"] == "cancelled"
    assert call(api, f"/{run_id}/cancel", method="POST").json["code"] == "reclassification_finished"
    second = call(api, **wanted()).json["id"]
    whole, first = call(api).json, call(api, "?limit=1").json
    assert ([run["id"] for run in whole["data"]], whole["has_more"]) == ([second, run_id], False)
    assert ([run["id"] for run in first["data"]], first["has_more"], first["after"]) == ([second], True, second)
    last = call(api, f"?limit=1&after={second}").json
    assert ([run["id"] for run in last["data"]], last["has_more"], last["after"]) == ([run_id], False, None)
    assert call(api, "?after=batch_0").json["code"] == "invalid_query"


def test_what_cannot_be_recalled_is_a_problem(api: Api) -> None:
    for path, method in (("/reclassification_0", "GET"), ("/reclassification_0/cancel", "POST")):
        answer = call(api, path, method=method)
        assert (answer.status_code, answer.json["code"]) == (404, "reclassification_unknown")
    for more, status, code in (
        ({"model": "nothing"}, 404, "model_unknown"),
        ({"with": "nothing"}, 404, "model_unknown"),
        ({"with": CARD.version}, 422, "same_version"),
        ({"dry_run": "perhaps"}, 422, "invalid_request"),
        ({"lane": "urgent"}, 422, "invalid_request"),
    ):
        answer = call(api, **wanted(**more))
        assert (answer.status_code, answer.json["code"]) == (status, code), answer.text
    assert call(api).json["data"] == []


def test_who_is_not_the_installation_neither_asks_nor_sees_the_numbers_of_all(api: Api) -> None:
    run_id = call(api, **wanted()).json["id"]
    theirs = {"Authorization": f"Bearer {key(api.parts.system, tenant='st-anna')}"}
    for path, more in (("", wanted()), ("", {}), (f"/{run_id}", {}), (f"/{run_id}/cancel", {"method": "POST"})):
        answer = call(api, path, headers=theirs, **more)
        assert (answer.status_code, answer.json["code"]) == (403, "not_the_installation"), path
    reader = {"Authorization": f"Bearer {key(api.parts.system, {Scope.READ})}"}
    assert call(api, f"/{run_id}", headers=reader).status_code == 200
    assert call(api, headers=reader, **wanted()).json["code"] == "scope_missing"
