"""Every route of the API, tried with no key, a key that lacks something, and another hospital's key."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, text, update
from werkzeug.test import TestResponse

from api import access
from db import keys, queue
from db.chains import AuditRow
from db.clock import now
from db.keys import ApiKey, Scope
from db.tables import Lane
from settings import Settings
from tests.access import EVERYTHING, key
from tests.queueing import finding
from tests.service import CARD
from tests.uploading import Api, Radiograph, multipart

OPEN = {"/livez", "/readyz"}
# What is the same for everybody; what of it is each hospital's own, tests/test_monitoring.py looks at.
OF_NO_HOSPITAL = ("/v1/limits", "/v1/models", "/metrics")
OF_ALL_HOSPITALS = ("/v1/reclassifications", "/v1/retraining-runs")  # their numbers are counted over all of them

Call = tuple[str, str]


@dataclass(frozen=True)
class Walk:
    """The application with one batch of the tenant `default`, and every call that its document names."""

    api: Api
    names: dict[str, str]
    traces: set[str]
    calls: dict[Call, list[str]]

    def ask(self, call: Call, key: str | None) -> TestResponse:
        path, method = call
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        client = self.api.client.application.test_client()
        return client.open(path.format(**self.names), method=method.upper(), headers=headers)

    def answers(self, key: str | None) -> Iterator[tuple[Call, int, str | None]]:
        """What every call that needs a key answers to this one."""
        for call, scopes in self.calls.items():
            if scopes:
                answer = self.ask(call, key)
                yield call, answer.status_code, (answer.get_json(silent=True) or {}).get("code")


@pytest.fixture
def walk(settings: Settings, migrated_url: str, radiograph: Radiograph) -> Iterator[Walk]:
    api = Api(replace(settings, database_url=migrated_url))
    sent: Any = api.post(multipart([("a.png", radiograph(1))])).json
    with api.parts.system.write() as session:
        held = queue.claim(session, Lane.ROUTINE, 1, lease_seconds=60, alone=False)
        assert held
        queue.finish(session, held, [finding(image) for image in held.images], [], worker="w1")
        ids = {"batch_id": sent["id"], "result_id": session.scalars(text("SELECT id FROM results")).one()}
    webhook: Any = api.client.post("/v1/webhooks", json={"url": "https://93.184.216.34/"}).json
    ids["webhook_id"] = webhook["id"]
    made: Any = api.client.post("/v1/keys", json={"name": "pacs", "scopes": ["read"]}).json
    ids["key_id"] = made["id"]
    label = {"result_id": ids["result_id"], "label": "positive", "source": "rt_pcr", "given_by": "the laboratory"}
    assert api.client.post("/v1/labels", json={"labels": [label]}).status_code == 200
    document: Any = api.client.get("/openapi.json").json
    calls = {
        (path, method): sorted(scope for one in call["security"] for scope in one["key"])
        for path, methods in document["paths"].items()
        for method, call in methods.items()
    }
    # A new parameter needs an example here, of something that belongs to the tenant `default`.
    names = ids | {"custom_id": "a.png", "suffix": "json", "version": CARD.version, "run_id": "run_0"}
    yield Walk(api, names, {*ids.values(), held.images[0].sha256}, calls)
    api.parts.system.close()


def test_every_call_but_the_health_checks_needs_a_scope(walk: Walk) -> None:
    assert {path for (path, _), scopes in walk.calls.items() if not scopes} == OPEN
    assert len(walk.calls) > 10


def test_without_a_key_nothing_is_answered(walk: Walk) -> None:
    for call, status, code in walk.answers(None):
        assert (status, code) == (401, "key_missing"), call
    for call, status, code in walk.answers("cxr_0123456789ab_" + "0" * 40):
        assert (status, code) == (401, "key_invalid"), call


def test_whatever_names_a_result_leaves_a_row(walk: Walk) -> None:
    """An address that shows results and is not in tests/test_looks.py is found here."""
    own = key(walk.api.parts.system, EVERYTHING)
    shown = set()
    for path, method in walk.calls:
        before = _looks(walk.api)
        if method == "get" and walk.names["result_id"] in walk.ask((path, method), own).text:
            shown.add(path)
            assert _looks(walk.api) == before + 1, path
    assert len(shown) > 5


def _looks(api: Api) -> int:
    with api.parts.system.read() as session:
        actions = session.scalars(select(AuditRow.action)).all()
    return sum(action.split(".")[1] in {"viewed", "exported", "searched"} for action in actions)


def test_a_key_without_the_scope_is_refused(walk: Walk) -> None:
    for scopes in {tuple(scopes) for scopes in walk.calls.values() if scopes}:
        lacking = key(walk.api.parts.system, EVERYTHING - set(map(Scope, scopes)))
        for call, needed in walk.calls.items():
            if tuple(needed) == scopes:
                answer: Any = walk.ask(call, lacking)
                assert (answer.status_code, answer.json["code"]) == (403, "scope_missing"), call


def test_a_key_that_expired_or_was_revoked_opens_nothing(walk: Walk) -> None:
    system = walk.api.parts.system
    for code, change in (("key_expired", {"expires_at": now(-1)}), ("key_revoked", {"revoked_at": now()})):
        closed = key(system)
        with system.write() as session:
            session.execute(update(ApiKey).where(ApiKey.id == closed.split("_")[1]).values(**change))
        for call, status, told in walk.answers(closed):
            assert (status, told) == (401, code), call


def test_another_hospitals_things_are_not_found(walk: Walk) -> None:
    """Asked for by name they are 404, and in no list is a trace of them; one's own are there."""
    system = walk.api.parts.system
    other, own = key(system, tenant="other"), key(system)
    for call in sorted(walk.calls, key=lambda call: call[1] == "delete"):
        path, method = call
        if path in OPEN or path.startswith(OF_NO_HOSPITAL):
            continue
        answer: Any = walk.ask(call, other)
        if path.startswith(OF_ALL_HOSPITALS):
            assert (answer.status_code, answer.json["code"]) == (403, "not_the_installation"), call
            assert walk.ask(call, own).status_code != 403, call
        elif "{" in path:
            assert answer.status_code == 404, call
            assert walk.ask(call, own).status_code != 404, call
        elif method == "get":
            assert answer.status_code == 200, call
            mine: Any = walk.ask(call, own)
            assert not [trace for trace in walk.traces if trace in answer.text], call
            if path == "/v1/audit/head":  # names whose it is, and nothing in it
                assert (answer.json["tenant"], mine.json["tenant"]) == ("other", "default")
            else:
                assert [trace for trace in walk.traces if trace in mine.text], call


def test_another_hospitals_image_cannot_be_labelled(walk: Walk) -> None:
    client = walk.api.client.application.test_client()
    label = {"label": "positive", "source": "rt_pcr", "given_by": "the laboratory"}
    for thing in ({"result_id": walk.names["result_id"]}, {"image_sha256": max(walk.traces, key=len)}):
        for tenant, status in (("other", 422), ("default", 200)):
            headers = {"Authorization": f"Bearer {key(walk.api.parts.system, tenant=tenant)}"}
            answer = client.post("/v1/labels", json={"labels": [label | thing]}, headers=headers)
            assert answer.status_code == status, answer.text


def test_a_route_without_a_rule_does_not_start() -> None:
    app: Any = Flask("new")
    app.add_url_rule("/v1/new", "new", lambda: "")
    with pytest.raises(AssertionError, match="new does not say which scope"):
        access.register(app)


def test_every_page_sends_who_is_not_signed_in_to_the_door(walk: Walk) -> None:
    rules = [rule for rule in walk.api.client.application.url_map.iter_rules() if rule.endpoint.startswith("pages.")]
    assert len(rules) > 1
    for rule in rules:
        path = re.sub(r"<(?:[^:<>]+:)?(\w+)>", r"{\1}", rule.rule)
        answer = walk.ask((path, "get"), None)
        assert answer.status_code == 303
        assert answer.headers["Location"].startswith("/sign-in?to=/")


def test_a_signed_in_browser_changes_nothing_without_the_pages_token(api: Api) -> None:
    del api.client.environ_base["HTTP_AUTHORIZATION"]
    signed = api.client.post("/sign-in", data={"key": key(api.parts.system)})
    assert (signed.status_code, signed.headers["Location"]) == (303, "/")
    assert api.client.get("/v1/batches").status_code == 200
    told: Any = api.client.delete("/v1/batches/batch_0").json
    assert (told["status"], told["code"]) == (403, "csrf_token_missing")
    page = api.client.get("/")
    token = re.search('name="csrf" content="([0-9a-f]+)"', page.text)
    assert token
    told = api.client.delete("/v1/batches/batch_0", headers={"X-CSRF-Token": token[1]}).json
    assert (told["status"], told["code"]) == (404, "batch_unknown")
    nonce = re.search("script-src 'nonce-([^']+)'", page.headers["Content-Security-Policy"])
    assert nonce
    assert page.text.count(f'nonce="{nonce[1]}"') == 2
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Cache-Control"] == "no-store"
    api.client.post("/sign-out", data={"csrf": token[1]})
    assert api.client.get("/v1/batches").status_code == 401


@pytest.mark.parametrize(("to", "goes"), [("/batches/b", "/batches/b"), ("//evil.example", "/"), ("https://evil", "/")])
def test_signing_in_leads_to_our_own_pages_only(api: Api, to: str, goes: str) -> None:
    answer = api.client.post("/sign-in", data={"key": key(api.parts.system), "to": to})
    assert answer.headers["Location"] == goes


# Keys


def test_a_secret_is_kept_nowhere(walk: Walk) -> None:
    made = key(walk.api.parts.system)
    _, key_id, secret = made.split("_")
    assert len(bytes.fromhex(secret)) * 8 >= 128
    with walk.api.parts.system.read() as session:
        row = session.get_one(ApiKey, key_id)
        assert secret not in str(vars(row))
        assert not [entry for entry in session.scalars(select(AuditRow.detail)) if secret in entry]


@pytest.mark.parametrize("damage", [lambda it: it[:-1], lambda it: it + "0", lambda it: it.replace("cxr", "CXR")])
def test_a_key_that_is_not_whole_opens_nothing(api: Api, damage: Any) -> None:
    whole = key(api.parts.system)
    with api.parts.system.read() as session:
        assert keys.caller(session, whole).scopes == EVERYTHING
        with pytest.raises(keys.KeyRefused, match="key_invalid"):
            keys.caller(session, damage(whole))


def test_what_a_key_did_stands_in_the_audit_under_its_name(api: Api, radiograph: Radiograph) -> None:
    with api.parts.system.write() as session:
        session.execute(update(ApiKey).values(revoked_at=now()))
    mine = key(api.parts.system)
    api.client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {mine}"
    assert api.submit({"a.png": radiograph(1)}).status_code == 202
    key_id = mine.split("_")[1]
    with api.parts.system.write() as session:
        keys.revoke(session, key_id, actor="operator")
        keys.revoke(session, key_id, actor="operator")
        rows = session.execute(select(AuditRow.actor, AuditRow.action).order_by(AuditRow.seq)).all()
    assert (f"key:{key_id}", "batch.submitted") in [tuple(row) for row in rows]
    assert [row.action for row in rows].count("key.revoked") == 1
    assert api.client.get("/v1/batches").status_code == 401


def test_the_last_use_of_a_key_is_noted_to_the_hour(api: Api) -> None:
    def last_used() -> Any:
        with api.parts.system.read() as session:
            return session.scalars(select(ApiKey.last_used_at)).one()

    assert last_used() is None
    api.client.get("/v1/limits")
    first = last_used()
    assert first is not None
    api.client.get("/v1/limits")
    assert last_used() == first


def test_a_refusal_says_how_to_come_in(api: Api) -> None:
    answer = api.client.get("/v1/batches", headers={"Authorization": "Basic abc"})
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.content_type == "application/problem+json"
    document: Any = api.client.get("/openapi.json").json
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
