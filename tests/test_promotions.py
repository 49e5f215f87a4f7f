"""Promotion and rollback: by the gate's verdict on this champion and this data, with a name and a reason, audited."""

import json
from dataclasses import replace

import pytest
from sqlalchemy import select

from db import batches, promotions, proof, registry, tenancy, verdicts
from db.batches import Item
from db.blobs import Blobs
from db.chains import AuditRow
from db.database import Database
from db.tables import Lane
from db.verdicts import Finding
from tests.service import CARD

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
