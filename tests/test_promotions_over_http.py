"""Promotion and rollback as an integrator asks for them: what waits, what is refused, and what a version shows."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from db import operating_points, promotions, registry, tenants
from db.promotions import Promotion
from tests.access import key
from tests.service import CARD
from tests.test_promotions import BAD, BY, GOOD, champion_of, judged, promoted, registered
from tests.uploading import Api


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
