"""The audit as it is read: pages and filters, the life of one result, and the exports."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from click.testing import CliRunner
from fhir.resources.R4B.auditevent import AuditEvent
from sqlalchemy import select

import cxr
from db import audit, proof, queue
from db.audit import Entry
from db.chains import AuditRow
from db.database import Database
from db.tables import Lane
from tests.queueing import finding
from tests.uploading import Api, Radiograph


@pytest.fixture
def classified(api: Api, radiograph: Radiograph) -> Api:
    """One batch of two images with results, done by one worker at the second attempt."""
    api.submit({f"{number}.png": radiograph(number) for number in range(2)})
    for _ in range(2):
        with api.parts.database.write() as session:
            held = queue.claim(session, Lane.ROUTINE, 2, lease_seconds=60, alone=False)
            assert held
            queue.give_back(session, held, worker="w0") if held.images[0].attempt == 1 else queue.finish(
                session, held, [finding(image) for image in held.images], [], worker="w1"
            )
    return api


def results(api: Api) -> list[dict[str, Any]]:
    answer: Any = api.client.get("/v1/results").json
    return sorted(answer["data"], key=lambda one: str(one["custom_id"]))


def history(api: Api, result_id: str) -> list[dict[str, Any]]:
    answer: Any = api.client.get(f"/v1/results/{result_id}/history").json
    steps: list[dict[str, Any]] = answer["steps"]
    return steps


def test_a_history_is_the_life_of_one_result(classified: Api) -> None:
    first, second = results(classified)
    batch = first["batch_id"]
    classified.client.get(f"/v1/results/{first['id']}", environ_base={"REMOTE_ADDR": "10.1.2.3"})
    classified.client.get(f"/v1/results/{second['id']}", environ_base={"REMOTE_ADDR": "10.4.4.4"})
    classified.client.get(f"/v1/batches/{batch}/images?limit=1")
    classified.client.get(f"/v1/batches/{batch}/results.csv")
    classified.client.delete(f"/v1/batches/{batch}")
    told = [(step["action"], step["actor"], step["origin"]) for step in history(classified, first["id"])]
    here = "127.0.0.1"
    assert told == [
        ("batch.submitted", classified.actor, here),
        ("image.claimed", "w1", None),
        ("image.classified", "w1", None),
        ("batch.completed", "w1", None),
        ("results.searched", classified.actor, here),
        ("result.viewed", classified.actor, "10.1.2.3"),
        ("result.viewed", classified.actor, here),
        ("results.exported", classified.actor, here),
        ("batch.purged", classified.actor, here),
        ("audit.viewed", classified.actor, here),
    ]
    steps = history(classified, second["id"])
    assert [step["origin"] for step in steps if step["action"] == "result.viewed"] == ["10.4.4.4"], "its own alone"


def test_a_history_names_the_claim_by_worker_model_and_attempt(classified: Api) -> None:
    claim, done = history(classified, results(classified)[0]["id"])[1:3]
    assert claim["detail"] == {"attempt": 2, "model_version": "test-1"}
    assert datetime.fromisoformat(claim["at"]) <= datetime.fromisoformat(done["at"])
    assert done["detail"]["label"] == "negative"


def test_a_history_of_nothing_is_404(api: Api) -> None:
    assert api.client.get("/v1/results/result_0/history").status_code == 404


def test_the_audit_goes_page_by_page_and_holds_every_hash(classified: Api) -> None:
    seen: list[dict[str, Any]] = []
    after = ""
    while after is not None and len(seen) < 8:
        page: Any = classified.client.get("/v1/audit?limit=2" + (f"&after={after}" if after else "")).json
        seen += page["data"]
        after = page["after"]
    assert [one["seq"] for one in seen] == list(range(1, 9))
    for before, one in pairwise(seen):
        assert one["previous_hash"] == before["hash"]


@pytest.mark.parametrize(
    ("query", "actions"),
    [
        ("action=image.classified", {"image.classified"}),
        ("actor=w1", {"image.classified", "batch.completed"}),
        ("origin=127.0.0.1", {"batch.submitted", "audit.viewed"}),
        ("subject=image:1", {"image.classified"}),
        ("to=2020-01-01T00:00:00Z", set()),
        ("batch_id={batch}&from=2020-01-01T00:00:00Z", {"batch.submitted", "image.classified", "batch.completed"}),
    ],
)
def test_the_audit_is_filtered(classified: Api, query: str, actions: set[str]) -> None:
    batch = classified.images()[0].batch_id
    page: Any = classified.client.get(f"/v1/audit?{query.format(batch=batch)}").json
    assert {row["action"] for row in page["data"]} == actions


def test_a_filter_that_nobody_knows_is_refused(api: Api) -> None:
    assert api.client.get("/v1/audit?whom=me").status_code == 400
    assert api.client.get("/v1/audit?from=2026-01-01T00:00:00").status_code == 400, "without a zone"


def exported(api: Api, *words: str) -> list[dict[str, Any]]:
    answer = CliRunner().invoke(cxr.main, ["audit", "export", *words], env=api.parts.settings.environment())
    assert answer.exit_code == 0, answer.output
    return [json.loads(line) for line in answer.stdout.splitlines()]


@pytest.mark.sqlite
def test_an_export_is_the_whole_chain_and_leaves_a_row_of_its_own(classified: Api) -> None:
    rows = exported(classified)
    chains = {row["tenant"]: [one for one in rows if one["tenant"] == row["tenant"]] for row in rows}
    assert set(chains) == {"*", "default"}
    for chain in chains.values():
        assert [row["seq"] for row in chain] == list(range(1, len(chain) + 1))
    assert all(row["hash"] == audit.digest(row) for row in rows), "whoever has the lines can compute the hashes"
    own = chains["*"][-1]
    assert own["action"] == "audit.exported"
    assert own["actor"].startswith("cli:")
    assert own["origin"]
    assert {row["tenant"] for row in exported(classified, "--tenant", "default")} == {"default"}
    with classified.parts.database.read() as session:
        assert proof.verify(session).problem is None


def test_an_export_takes_the_same_filters(classified: Api) -> None:
    assert {row["action"] for row in exported(classified, "--action", "image.classified")} == {"image.classified"}
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%d")
    assert exported(classified, "--from", tomorrow) == []
    assert len(exported(classified, "--to", tomorrow, "--actor", "w1")) == 3


@pytest.mark.sqlite
def test_every_row_is_a_valid_fhir_audit_event(classified: Api) -> None:
    first = results(classified)[0]
    classified.client.get(f"/v1/results/{first['id']}", environ_base={"REMOTE_ADDR": "10.1.2.3"})
    classified.client.delete(f"/v1/batches/{first['batch_id']}")
    events = exported(classified, "--form", "fhir")
    for one in events:
        AuditEvent.model_validate(one)
    look = next(one for one in events if one["subtype"][0]["code"] == "result.viewed")
    assert (look["type"]["code"], look["action"]) == ("access", "R")
    assert look["agent"][0]["network"] == {"address": "10.1.2.3", "type": "2"}
    assert look["entity"][0]["what"]["identifier"]["value"] == first["id"]
    purge = next(one for one in events if one["subtype"][0]["code"] == "batch.purged")
    assert (purge["type"]["code"], purge["action"]) == ("destroy", "D")


def test_the_origin_is_part_of_the_hash(database: Database) -> None:
    with database.write() as session, audit.coming_from("10.0.0.1"):
        audit.append(session, "api", [Entry("thing.done", "thing", None, {})])
    with database.read() as session:
        row = vars(session.scalars(select(AuditRow)).one())
    assert row["origin"] == "10.0.0.1"
    assert audit.digest(row) == row["hash"]
    assert audit.digest(row | {"origin": None}) != row["hash"] != audit.digest(row | {"origin": "10.0.0.2"})
