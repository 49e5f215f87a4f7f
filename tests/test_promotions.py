"""Promotion and rollback: by the gate's verdict on this champion and this data, with a name and a reason, audited."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from db import batches, operating_points, promotions, proof, registry, tenancy, tenants, verdicts
from db.batches import Item
from db.blobs import Blobs
from db.chains import AuditRow
from db.database import Database
from db.promotions import Promotion
from db.tables import Lane
from db.verdicts import Finding
from tests.access import key
from tests.service import CARD
from tests.uploading import Api

GOOD = Finding("probe_border_only", passed=True, measured=0.55, bound=0.65, words="border only 0.550")
BAD = Finding("probe_lungs_blanked", passed=False, measured=0.8, bound=0.65, words="lungs blanked 0.800")
BY = {"who": "Dr B", "reason": "better within sources"}


def registered(database: Database, blobs: Blobs, *versions: str) -> None:
    with database.write() as session:
        for version in versions:
            card = registry.Card(**vars(CARD) | {"version": version})
            registry.register(session, blobs, card, version.encode(), actor="test")


def judged(
    database: Database, version: str, *findings: Finding, fold: str = "fold", against: str | None = None
) -> None:
    with database.write() as session:
        verdicts.record(
            session,
            version,
            findings or (GOOD,),
            champion=against or registry.champion(session).version,
            fold_fingerprint=fold,
            golden=[0.5],
            reference={},
            actor="test",
        )


def promoted(database: Database, version: str) -> None:
    """As a worker settles it."""
    with database.write() as session:
        asked = promotions.ask(session, version, **BY, actor="test")
        assert promotions.settle(session, asked.id, problem=None, worker="w1")


def champion_of(database: Database) -> str:
    with database.read() as session:
        return registry.champion(session).version


@pytest.mark.usefixtures("champion")
def test_a_version_that_passed_becomes_champion_once_a_worker_has_tried_it(database: Database, blobs: Blobs) -> None:
    registered(database, blobs, "b")
    judged(database, "b")
    with database.write() as session:
        asked = promotions.ask(session, "b", **BY, actor="test")
    assert champion_of(database) == CARD.version
    with database.write() as session:
        assert promotions.settle(session, asked.id, problem=None, worker="w1")
        assert not promotions.settle(session, asked.id, problem="too late", worker="w2")
    assert champion_of(database) == "b"


@pytest.mark.usefixtures("champion")
def test_a_version_that_no_worker_can_use_leaves_the_old_champion(database: Database, blobs: Blobs) -> None:
    registered(database, blobs, "b")
    judged(database, "b")
    with database.write() as session:
        asked = promotions.ask(session, "b", **BY, actor="test")
    with database.write() as session:
        promotions.settle(session, asked.id, problem="damaged", worker="w1")
    assert champion_of(database) == CARD.version
    with database.read() as session:
        last = promotions.latest(session)
        assert last
        assert (last.state, last.problem) == ("refused", "damaged")


@pytest.mark.usefixtures("champion")
def test_the_golden_pictures_are_those_of_the_last_verdict_that_passed(database: Database, blobs: Blobs) -> None:
    registered(database, blobs, "b", "c")
    judged(database, "b")
    for version in ("b", "c"):
        judged(database, version, BAD)
    with database.read() as session:
        assert (verdicts.golden(session, "b"), verdicts.golden(session, "c")) == ([0.5], [])


@pytest.mark.usefixtures("champion")
def test_only_a_verdict_on_this_champion_and_this_data_counts(database: Database, blobs: Blobs) -> None:
    registered(database, blobs, "b", "c")

    def refused(version: str, kind: type[Exception], words: str) -> None:
        with pytest.raises(kind, match=words), database.write() as session:
            promotions.ask(session, version, **BY, actor="test")

    refused("b", promotions.NotJudged, "no verdict")
    judged(database, "b", GOOD, BAD)
    refused("b", promotions.GateRefused, "lungs blanked 0.800")
    judged(database, "b")
    judged(database, "c", fold="other")
    refused("b", promotions.NotJudged, "another frozen fold")
    promoted(database, "c")
    judged(database, "c", fold="other")
    refused("c", promotions.AlreadyChampion, "c")
    refused("b", promotions.NotJudged, "the champion now")
    judged(database, "b", fold="other", against=CARD.version)  # whose judge began before the promotion
    refused("b", promotions.NotJudged, f"against {CARD.version}, and c is the champion now")
    assert champion_of(database) == "c"


@pytest.mark.usefixtures("champion")
def test_the_bounds_of_earlier_verdicts_are_those_on_the_same_frozen_fold(database: Database, blobs: Blobs) -> None:
    registered(database, blobs, "b")
    judged(database, "b", GOOD, replace(BAD, bound=None))
    judged(database, "b", replace(GOOD, bound=0.6))
    judged(database, "b", replace(GOOD, bound=float("nan")))
    judged(database, "b", BAD, fold="other")
    with database.read() as session:
        assert verdicts.bounds(session, "fold") == {GOOD.rule: [0.65, 0.6]}


@pytest.mark.usefixtures("champion")
def test_one_call_rolls_back_and_the_way_back_ends_at_the_first(database: Database, blobs: Blobs) -> None:
    registered(database, blobs, "b", "c")
    for version in ("b", "c"):
        judged(database, version)
        promoted(database, version)
    for before, after in (("c", "b"), ("b", CARD.version)):
        with database.write() as session:
            promotions.roll_back(session, before, **BY, actor="test")
        assert champion_of(database) == after
    for version in (CARD.version, "c"):
        with pytest.raises(promotions.NothingToRollBack), database.write() as session:
            promotions.roll_back(session, version, **BY, actor="test")


@pytest.mark.usefixtures("champion")
def test_a_batch_keeps_the_version_that_it_was_submitted_with(database: Database, blobs: Blobs) -> None:
    registered(database, blobs, "b")
    judged(database, "b")
    pinned = []
    for _ in range(2):
        with database.of(tenancy.DEFAULT).write() as session:
            item = Item("1.png", "a" * 64, 1, "image/png")
            pinned.append(batches.add(session, [item], lane=Lane.ROUTINE, actor="test").id)
        if len(pinned) == 1:
            promoted(database, "b")
    with database.read() as session:
        found = [batches.progress(session, batch_id) for batch_id in pinned]
    assert [progress.model_version for progress in found if progress] == [CARD.version, "b"]


@pytest.mark.usefixtures("champion")
def test_who_and_why_stand_in_the_audit(database: Database, blobs: Blobs) -> None:
    registered(database, blobs, "b")
    judged(database, "b")
    promoted(database, "b")
    with database.write() as session:
        promotions.roll_back(session, "b", **BY, actor="test")
    with database.read() as session:
        rows = session.scalars(select(AuditRow).where(AuditRow.action.like("model.%")).order_by(AuditRow.seq))
        told = {row.action: json.loads(row.detail) for row in rows}
        assert proof.verify(session).problem is None
    assert {"model.judged", "model.promotion_asked", "model.appointed", "model.rolled_back"} <= set(told)
    for action in ("model.promotion_asked", "model.rolled_back"):
        assert {name: told[action][name] for name in BY} == BY


# Over HTTP


@pytest.fixture
def call(api: Api) -> Callable[..., Any]:
    registered(api.parts.database, api.parts.blobs, "b")

    def post(version: str, what: str, **body: str) -> Any:
        return api.client.post(f"/v1/models/{version}/{what}", json=body or BY)

    return post


def test_the_refusal_says_which_rule_and_which_number(api: Api, call: Callable[..., Any]) -> None:
    answer = call("b", "promote")
    assert (answer.status_code, answer.json["code"]) == (422, "not_judged")
    assert "Evaluate first" in answer.json["detail"]
    judged(api.parts.database, "b", GOOD, BAD)
    answer = call("b", "promote")
    assert (answer.status_code, answer.json["code"]) == (422, "gate_refused")
    assert answer.json["findings"] == [vars(BAD)]


def test_a_promotion_waits_and_only_one_can(api: Api, call: Callable[..., Any]) -> None:
    judged(api.parts.database, "b")
    answer = call("b", "promote")
    assert (answer.status_code, answer.json["state"]) == (200, "pending")
    assert call("b", "promote").json["code"] == "promotion_pending"
    listed: Any = api.client.get("/v1/models").json
    assert listed["promotion"]["version"] == "b"
    assert {model["version"]: model["aliases"] for model in listed["data"]} == {"b": [], CARD.version: ["champion"]}


def test_a_promotion_that_no_worker_tries_can_be_withdrawn(api: Api, call: Callable[..., Any]) -> None:
    registered(api.parts.database, api.parts.blobs, "c")
    for version in ("b", "c"):
        judged(api.parts.database, version)
    assert call("b", "promote").json["state"] == "pending"
    withdrawn = call("b", "rollback").json
    assert (withdrawn["version"], withdrawn["state"]) == ("b", "withdrawn")
    assert "cxr_promotion_refused 0" in api.client.get("/metrics").text.splitlines(), "no worker has refused it"
    assert withdrawn["problem"] == "withdrawn by Dr B: better within sources"
    promoted(api.parts.database, "b")
    judged(api.parts.database, "c")
    assert call("c", "promote").json["state"] == "pending"
    assert call("b", "rollback").json["version"] == CARD.version, "and the one that waits is not to overtake it"
    with api.parts.database.read() as session:
        assert promotions.pending(session) is None
    assert champion_of(api.parts.database) == CARD.version


@pytest.mark.parametrize("body", [{"who": "Dr B"}, {"who": " ", "reason": "x"}, {**BY, "force": "yes"}])
def test_a_promotion_needs_a_person_and_a_reason(api: Api, call: Callable[..., Any], body: dict[str, str]) -> None:
    judged(api.parts.database, "b")
    assert call("b", "promote", **body).status_code == 422
    with api.parts.database.read() as session:
        assert session.scalars(select(Promotion)).all() == []


@pytest.mark.parametrize(
    ("version", "what", "status", "code"),
    [
        (CARD.version, "promote", 409, "already_champion"),
        (CARD.version, "rollback", 409, "nothing_to_roll_back"),
        ("b", "rollback", 409, "nothing_to_roll_back"),
        ("z", "promote", 404, "model_unknown"),
        ("z", "rollback", 404, "model_unknown"),
    ],
)
@pytest.mark.usefixtures("api")
def test_what_cannot_be_done_is_said(call: Callable[..., Any], version: str, what: str, status: int, code: str) -> None:
    answer = call(version, what)
    assert (answer.status_code, answer.json["code"]) == (status, code)


def test_one_version_shows_its_verdict(api: Api, call: Callable[..., Any]) -> None:
    judged(api.parts.database, "b", GOOD, BAD)
    shown: Any = api.client.get("/v1/models/b").json
    assert shown["verdict"]["passed"] is False
    assert [finding["rule"] for finding in shown["verdict"]["findings"]] == [GOOD.rule, BAD.rule]
    assert call("b", "promote").status_code == 422
    unknown: Any = api.client.get("/v1/models/z")
    assert (unknown.status_code, unknown.json["code"]) == (404, "model_unknown")


def test_a_hospital_sees_of_the_labels_that_a_version_was_trained_on_only_its_own_count(api: Api) -> None:
    """The totals of all, and the histograms whose sum is one, are shown to the installation's own keys alone."""
    told = {"run": "retraining_1", "images": 9, "left_out": 1, "positive": 3, "hospitals": {"default": 4, "st-anna": 5}}
    config = {"labels": told, "reference": {"score": [1309]}, "seed": 7}
    with api.parts.database.write() as session:
        card = registry.Card(**vars(CARD) | {"version": "b", "config": config})
        registry.register(session, api.parts.blobs, card, b"b", actor="test")
    theirs = {"Authorization": f"Bearer {key(api.parts.system, tenant='st-anna')}"}
    shown: Any = api.client.get("/v1/models/b").json
    assert shown["config"] == config | {"labels": told | {"hospitals": {"default": 4}}}
    shown = api.client.application.test_client().get("/v1/models/b", headers=theirs).json
    assert shown["config"] == {"labels": {"run": "retraining_1", "hospitals": {"st-anna": 5}}, "seed": 7}


def test_a_promotion_names_the_hospitals_whose_own_operating_point_it_leaves_behind(
    api: Api, call: Callable[..., Any]
) -> None:
    judged(api.parts.database, "b")
    point = (0.3, (0.2, 0.4))
    with api.parts.database.write() as session:
        for name in ("st-anna", "st-berta", "st-clara"):
            tenants.add(session, name, actor="test")
        for version, name, own in (
            (CARD.version, "default", point),
            (CARD.version, "st-anna", point),
            ("b", "st-anna", point),
            (CARD.version, "st-berta", point),
            (CARD.version, "st-clara", point),
            (CARD.version, "st-clara", None),
        ):
            operating_points.put(session, version, name, own, on={}, actor="test")
    shown: Any = api.client.get(f"/v1/models/{CARD.version}").json
    assert shown["operating_point"] == {"threshold": 0.3, "band_low": 0.2, "band_high": 0.4}
    assert call("b", "promote").json["points_left"] == ["default", "st-berta"]
    listed: Any = api.client.get("/v1/models")
    assert "st-berta" not in listed.text, "everybody may see that answer"
    shown = api.client.get("/v1/models/b").json
    assert shown["operating_point"] is None
