"""A hospital's own administrator makes and closes its keys over HTTP, and sees no other's."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

import cxr
import operator_key
from db import tenancy
from db.keys import Scope
from settings import Settings
from tests.access import EVERYTHING, key, show_key
from tests.clients import alone
from tests.uploading import Api

__all__ = ["alone"]

Run = Callable[..., Result]
ASKED = {"name": "pacs", "scopes": ["submit", "read"], "days": 7}


def client_of(api: Api, made: str) -> Any:
    client = api.client.application.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {made}"
    return client


def test_a_key_is_made_opens_what_it_may_and_is_revoked(api: Api) -> None:
    made: Any = api.client.post("/v1/keys", json=ASKED)
    assert (made.status_code, made.json["state"], made.json["tenant"]) == (201, "open", tenancy.DEFAULT)
    theirs = client_of(api, made.json["key"])
    assert theirs.get("/v1/batches").status_code == 200
    assert theirs.get("/v1/keys").status_code == 403
    listed: Any = api.client.get("/v1/keys")
    secret = made.json["key"].split("_")[2]
    assert made.json["id"] in listed.text
    assert secret not in listed.text
    assert api.client.delete(f"/v1/keys/{made.json['id']}").status_code == 204
    assert theirs.get("/v1/batches").json["code"] == "key_revoked"
    audit: Any = api.client.get("/v1/audit").json
    told = [(row["action"], row["actor"][:4]) for row in audit["data"] if row["subject"] == f"key:{made.json['id']}"]
    assert told == [("key.created", "key:"), ("key.revoked", "key:")]


def test_a_key_that_was_made_over_http_is_shown_once_even_to_the_same_request(api: Api) -> None:
    headers = {"Idempotency-Key": "one"}
    first: Any = api.client.post("/v1/keys", json=ASKED, headers=headers)
    again: Any = api.client.post("/v1/keys", json=ASKED, headers=headers)
    assert (first.status_code, again.status_code, again.json) == (201, 201, first.json | {"key": None})
    listed: Any = api.client.get("/v1/keys").json
    assert len([one for one in listed["data"] if one["name"] == "pacs"]) == 1


def test_another_hospitals_keys_are_not_there(api: Api) -> None:
    mine: Any = api.client.post("/v1/keys", json=ASKED).json
    theirs = client_of(api, key(api.parts.system, EVERYTHING, tenant="st-anna"))
    assert {one["tenant"] for one in theirs.get("/v1/keys").json["data"]} == {"st-anna"}
    assert theirs.delete(f"/v1/keys/{mine['id']}").json["code"] == "key_unknown"
    assert client_of(api, mine["key"]).get("/v1/batches").status_code == 200
    made = theirs.post("/v1/keys", json=ASKED).json
    assert made["tenant"] == "st-anna"


@pytest.mark.parametrize(
    "asked",
    [{}, {"name": ""}, {"scopes": []}, {"scopes": ["root"]}, {"days": 0}, {"days": 4000}, {"tenant": "st-anna"}],
)
def test_what_makes_no_key_is_refused(api: Api, asked: dict[str, Any]) -> None:
    answer: Any = api.client.post("/v1/keys", json=ASKED | asked if asked else {})
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")


def test_a_hospitals_administrator_does_not_change_the_models_of_all(api: Api) -> None:
    show_key(api.client, EVERYTHING, tenant="st-anna")
    approval = {"who": "A", "reason": "B"}
    for path, body in (
        ("/v1/models/cnn-x/promote", approval),
        ("/v1/models/cnn-x/rollback", approval),
        ("/v1/reclassifications", {"model": "a", "with": "b"}),
        ("/v1/retraining-runs", {}),
        ("/v1/retraining-runs/run_x/cancel", {}),
    ):
        answer: Any = api.client.post(path, json=body)
        assert (answer.status_code, answer.json["code"]) == (403, "not_the_installation"), path


@pytest.mark.parametrize("path", ["/v1/audit", "/v1/audit/head"])
def test_the_installations_audit_is_for_the_installations_auditors(api: Api, path: str) -> None:
    whole: Any = api.client.get(path, query_string={"chain": "installation"})
    assert whole.status_code == 200
    show_key(api.client, EVERYTHING, tenant="st-anna")
    answer: Any = api.client.get(path, query_string={"chain": "installation"})
    assert (answer.status_code, answer.json["code"]) == (403, "not_the_installation")
    assert api.client.get(path, query_string={"chain": "own"}).status_code == 200
    unknown: Any = api.client.get(path, query_string={"chain": "st-anna"})
    assert (unknown.status_code, unknown.json["code"]) == (400, "invalid_query")


@pytest.fixture
def run(alone: Settings) -> Run:
    """Commands from another machine: an address and a key, and nothing else."""
    environment = {
        "CXR_HOME": "/nonexistent",
        "CXR_URL": f"http://{alone.host}:{alone.port}",
        "CXR_KEY": operator_key.known(alone) or "",
    }
    return lambda *words: CliRunner().invoke(cxr.main, [str(word) for word in words], env=environment)


def test_the_commands_do_the_same_from_another_machine(run: Run) -> None:
    made = run("key", "create", "pacs", "--scope", Scope.READ)
    assert (made.exit_code, made.stdout[:4]) == (0, "cxr_"), made.output
    key_id = made.stdout.split("_")[1]
    assert run("key", "revoke", key_id).exit_code == 0
    (row,) = [one for one in json.loads(run("key", "list", "--json").stdout)["data"] if one["id"] == key_id]
    assert (row["name"], row["state"], row["scopes"]) == ("pacs", "revoked", "read")
    assert run("key", "revoke", "0" * 12).exit_code == 4
    assert run("key", "create", "x", "--scope", "read", "--tenant", "st-anna").exit_code == 2


def test_the_audit_and_the_models_are_seen_from_another_machine(run: Run) -> None:
    run("key", "create", "seen", "--scope", Scope.READ)
    rows = json.loads(run("audit", "list", "--action", "key.created", "--json").stdout)["data"]
    assert {row["action"] for row in rows} == {"key.created"}
    shown = run("audit", "list")
    assert "key.created" in shown.stdout
    assert "audit.viewed" in shown.stdout
    (model,) = json.loads(run("models", "--json").stdout)["data"]
    assert model["champion"] is True
    assert model["version"] in run("models").stdout
    assert model["version"] in run("monitoring").stdout


@pytest.mark.parametrize(
    "words",
    [
        ("audit", "head"),
        ("judge", "a", "--data", "."),
        ("shadow",),
        ("operating-point",),
        ("tenant", "create", "st-anna"),
        ("tenant", "list"),
    ],
)
def test_no_command_on_this_machines_database_speaks_for_another_server(run: Run, words: tuple[str, ...]) -> None:
    answer = run(*words)
    assert (answer.exit_code, "without CXR_URL" in answer.stderr) == (2, True), answer.output
