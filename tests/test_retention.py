"""Images, results and audit go by a clock each; what went is 410, written down, and the audit still holds."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import delete, func, select, text, update

from db import audit, clock, proof, pruning, queue, retention
from db.audit import Entry
from db.chains import AuditHead, AuditRow
from db.database import Database
from db.heads import Heads, HeadUnusable, hashes, vouch
from db.idempotency import IdempotencyKey
from db.identifiers import Identifiers
from db.retention import Keep
from db.slots import Slot
from db.tables import Batch, Image, Lane, Result
from db.tenancy import SYSTEM
from tests.chains import lift
from tests.queueing import finding
from tests.uploading import Api, Radiograph, multipart
from worker import schedule
from worker.schedule import Clockwork


@pytest.fixture
def classified(api: Api, radiograph: Radiograph) -> Api:
    api.submit({f"{number}.png": radiograph(number) for number in range(2)})
    with api.parts.system.write() as session:
        held = queue.claim(session, Lane.ROUTINE, 2, lease_seconds=60, alone=False)
        assert held
        known = Identifiers("1.2", "1.2.3", "ACC-4711")
        queue.finish(session, held, [finding(image, known) for image in held.images], [], worker="w1")
    return api


@pytest.fixture
def batch(classified: Api) -> str:
    return classified.images()[0].batch_id


@pytest.fixture
def result(classified: Api) -> str:
    with classified.parts.system.read() as session:
        return session.scalars(select(Result.id)).first() or ""


def ended(api: Api, *, days: int) -> None:
    with api.parts.system.write() as session:
        at = clock.read(session) - timedelta(days=days)
        session.execute(update(Batch).values(finished_at=at))


def actions(api: Api) -> list[tuple[str, str]]:
    with api.parts.system.read() as session:
        return [(row.action, row.actor) for row in session.scalars(select(AuditRow).order_by(AuditRow.seq))]


def test_nothing_goes_unless_a_clock_is_set(classified: Api) -> None:
    ended(classified, days=100_000)
    system = classified.parts.system
    assert retention.purge_images(system, classified.parts.blobs, 0) == retention.purge_results(system, 0) == 0
    assert len(classified.blobs()) == 2


def test_images_go_by_their_own_clock(classified: Api, batch: str, result: str) -> None:
    ended(classified, days=29)
    system, blobs = classified.parts.system, classified.parts.blobs
    assert retention.purge_images(system, blobs, 30) == 0
    ended(classified, days=31)
    assert retention.purge_images(system, blobs, 30) == 1
    assert retention.purge_images(system, blobs, 30) == 0, "once"
    assert classified.blobs() == []
    assert ("batch.purged", "retention") in actions(classified)
    retried: Any = classified.client.post(f"/v1/batches/{batch}/retry")
    assert (retried.status_code, retried.json["code"]) == (410, "batch_purged")
    assert classified.client.get(f"/v1/results/{result}").status_code == 200, "its result has a clock of its own"


def test_the_schedule_keeps_each_as_long_as_its_setting_says(classified: Api, tmp_path: Path) -> None:
    system, blobs = classified.parts.system, classified.parts.blobs
    app = Celery("test", broker="memory://")
    schedule.register(app, Clockwork(system, blobs, Heads(tmp_path / "audit"), Keep(images=30, results=60)))
    for days, images, results in ((29, 2, 2), (31, 0, 2), (61, 0, 0)):
        ended(classified, days=days)
        with system.write() as session:
            session.execute(delete(Slot))
        app.tasks[schedule.RETIRE]()
        with system.read() as session:
            kept = session.scalars(select(func.count()).select_from(Result)).one()
        assert (len(classified.blobs()), kept) == (images, results), f"{days} days"


def test_results_go_by_their_own_clock_and_are_410_then(classified: Api, batch: str, result: str) -> None:
    ended(classified, days=31)
    assert retention.purge_results(classified.parts.system, 32) == 0
    assert retention.purge_results(classified.parts.system, 30) == 1
    assert retention.purge_results(classified.parts.system, 30) == 0, "once"
    paths = (
        f"/v1/results/{result}",
        f"/v1/results/{result}/history",
        f"/v1/batches/{batch}/results",
        f"/v1/batches/{batch}/results.csv",
        f"/v1/batches/{batch}/images",
        f"/v1/batches/{batch}/images/0.png",
    )
    for path in paths:
        answer: Any = classified.client.get(path)
        assert (answer.status_code, answer.json["code"]) == (410, "results_purged"), path
    standing: Any = classified.client.get(f"/v1/batches/{batch}").json
    assert standing["results_purged_at"]
    assert standing["counts"]["classified"] == 2
    assert "results were purged" in classified.client.get(f"/batches/{batch}").text
    assert classified.client.get("/v1/results/result_0").status_code == 404, "what never was is not gone"
    assert ("results.purged", "retention") in actions(classified)


def test_nothing_that_names_a_study_is_left(classified: Api) -> None:
    ended(classified, days=31)
    retention.purge_results(classified.parts.system, 30)
    with classified.parts.system.read() as session:
        assert session.scalars(select(func.count()).select_from(Result)).one() == 0
        for image in session.scalars(select(Image)):
            assert image.custom_id == f"image:{image.id}"
            assert (image.accession, image.study_uid, image.sop_uid) == (None, None, None)


def test_no_answer_that_is_kept_for_a_key_names_an_image_any_more(api: Api, radiograph: Radiograph) -> None:
    files = multipart([("fine.png", radiograph(1)), ("Mustermann.png", b"no image")])
    first = api.post(files, headers={"Idempotency-Key": "whole"})
    draft = api.client.post("/v1/batches", json={}).headers["Location"]
    api.client.put(f"{draft}/images/fine.png", data=radiograph(2))
    api.client.put(f"{draft}/images/Mustermann.png", data=b"no image")
    second = api.client.post(f"{draft}/submit", headers={"Idempotency-Key": "draft"})
    assert [("Mustermann" in answer.text, answer.status_code) for answer in (first, second)] == [(True, 202)] * 2
    for _ in range(2):
        with api.parts.system.write() as session:
            held = queue.claim(session, Lane.ROUTINE, 2, lease_seconds=60, alone=False)
            if held:
                queue.finish(session, held, [finding(image) for image in held.images], [], worker="w1")
    ended(api, days=31)
    assert retention.purge_results(api.parts.system, 30) == 2
    with api.parts.system.read() as session:
        assert list(session.scalars(select(IdempotencyKey.body))) == [None, None]
    again = [api.post(files, headers={"Idempotency-Key": "whole"}),
             api.client.post(f"{draft}/submit", headers={"Idempotency-Key": "draft"})]  # fmt: skip
    assert [answer.status_code for answer in again] == [202, 409]
    assert not any("Mustermann" in answer.text for answer in again)


def test_an_open_batch_never_goes(api: Api, radiograph: Radiograph) -> None:
    api.submit({"waits.png": radiograph(1)})
    ended(api, days=1_000)
    assert retention.purge_images(api.parts.system, api.parts.blobs, 1) == 0
    assert retention.purge_results(api.parts.system, 1) == 0


# The audit


@pytest.fixture
def heads(tmp_path: Path) -> Heads:
    return Heads(tmp_path / "audit")


@pytest.fixture
def aged(database: Database, heads: Heads, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Ten rows of ten days ago and five of today, each end signed."""
    read = clock.read
    for days, number in ((10, 10), (0, 5)):
        monkeypatch.setattr(clock, "read", lambda session, days=days: read(session) - timedelta(days=days))
        with database.write() as session:
            audit.append(session, "test", [Entry("thing.done", f"thing:{days}", None, {})] * number)
        with database.read() as session:
            heads.sign(session)
    monkeypatch.setattr(clock, "read", read)
    return database


def problem(database: Database, heads: Heads) -> str | None:
    with database.read() as session:
        verdict = proof.verify(session, hashes(heads.kept()))
    try:
        vouch(verdict, heads.public)
    except HeadUnusable as error:
        return str(error)
    return verdict.problem


def rows(database: Database) -> list[int]:
    with database.read() as session:
        return list(session.scalars(select(AuditRow.seq).where(AuditRow.tenant == SYSTEM).order_by(AuditRow.seq)))


def test_old_rows_of_the_audit_go_and_the_rest_still_holds(aged: Database, heads: Heads) -> None:
    assert pruning.prune(aged, heads, 0) == 0
    assert pruning.prune(aged, heads, 11) == 0
    assert pruning.prune(aged, heads, 5) == 10
    assert pruning.prune(aged, heads, 5) == 0, "once"
    assert rows(aged) == [11, 12, 13, 14, 15, 16]
    assert problem(aged, heads) is None
    with aged.read() as session:
        heads.sign(session)
        told = json.loads(session.get_one(AuditRow, (SYSTEM, 16)).detail)
    assert (told["rows"], told["head"]["seq"], told["head"]["key"]) == (10, 10, heads.public)
    assert problem(aged, heads) is None


def test_a_chain_can_be_pruned_again_and_to_its_last_row(aged: Database, heads: Heads, monkeypatch: Any) -> None:
    pruning.prune(aged, heads, 5)
    read = clock.read
    monkeypatch.setattr(clock, "read", lambda session: read(session) + timedelta(days=30))
    assert pruning.prune(aged, heads, 5) == 6
    assert rows(aged) == [17]
    assert problem(aged, heads) is None


def test_a_pruning_that_was_killed_is_ended_by_the_next(aged: Database, heads: Heads, monkeypatch: Any) -> None:
    monkeypatch.setattr(pruning, "_TOGETHER", 4)
    with monkeypatch.context() as dying:
        dying.setattr(pruning, "_remove_some", lambda *_: 0)
        pruning.prune(aged, heads, 5)
    assert len(rows(aged)) == 16
    assert problem(aged, heads) is None, "what was given up does not count, gone or not"
    assert pruning.prune(aged, heads, 5) == 10
    assert problem(aged, heads) is None


def test_the_database_still_refuses_to_delete_what_was_not_given_up(aged: Database, heads: Heads) -> None:
    pruning.prune(aged, heads, 5)
    with pytest.raises(Exception, match="append-only"), aged.write() as session:
        session.execute(text("DELETE FROM audit WHERE seq = 12"))


@pytest.mark.parametrize("given_up", [9, 11])
def test_a_chain_gives_up_only_the_rows_that_its_last_row_names(aged: Database, heads: Heads, given_up: int) -> None:
    with pytest.raises(Exception, match="append-only"), aged.write() as session:
        entry = Entry(proof.PRUNED, "audit", None, {"rows": 10, "head": {"seq": 10}}, SYSTEM)
        audit.append(session, "retention", [entry])
        session.execute(text(f"UPDATE audit_heads SET pruned = {given_up} WHERE tenant = '*'"))
    assert pruning.prune(aged, heads, 5) == 10
    with pytest.raises(Exception, match="append-only"), aged.write() as session:
        session.execute(text("UPDATE audit_heads SET pruned = 5 WHERE tenant = '*'"))


Forgery = Callable[[Database, Heads], None]


def cut(database: Database) -> None:
    with database.write() as session:
        lift(session)
        session.execute(text("UPDATE audit_heads SET pruned = 12 WHERE tenant = '*'"))
        session.execute(text("DELETE FROM audit WHERE seq <= 12 AND tenant = '*'"))


def without_a_word(database: Database, _heads: Heads) -> None:
    cut(database)


def with_a_checkpoint_of_their_own(database: Database, heads: Heads) -> None:
    forged = Heads(heads._directory.with_name("theirs"))
    _checkpoint(database, lambda seq, digest: asdict(forged.checkpoint(SYSTEM, seq, digest, "2026")))


def with_a_signed_end_of_the_chain(database: Database, heads: Heads) -> None:
    """An end that was signed is no word that what is before it may go."""
    _checkpoint(
        database, lambda seq, digest: asdict(heads._signed("cxr-batch audit head", SYSTEM, seq, digest, "2026"))
    )


def _checkpoint(database: Database, make: Callable[[int, str], dict[str, Any]]) -> None:
    with database.write() as session:
        row = session.get_one(AuditRow, (SYSTEM, 12))
        detail = {"rows": 12, "head": make(12, row.hash)}
        audit.append(session, "retention", [Entry(proof.PRUNED, "audit", None, detail, SYSTEM)])
    cut(database)


@pytest.mark.parametrize(
    ("forgery", "words"),
    [
        (without_a_word, "the rows up to 12 are gone, and no checkpoint stands for them"),
        (with_a_checkpoint_of_their_own, "is not signed by the key that is trusted"),
        (with_a_signed_end_of_the_chain, "is not signed by the key that is trusted"),
    ],
)
def test_who_holds_the_database_cannot_prune_it_unseen(
    aged: Database, heads: Heads, forgery: Forgery, words: str
) -> None:
    forgery(aged, heads)
    assert words in (problem(aged, heads) or "")


def test_what_was_pruned_must_be_what_was_signed(aged: Database, heads: Heads) -> None:
    """Rows that were written anew before they were pruned still do not fit the signed head."""
    with aged.write() as session:
        lift(session)
        session.execute(text("UPDATE audit SET actor = 'nobody' WHERE seq = 3 AND tenant = '*'"))
        previous = audit.genesis(SYSTEM)
        for row in session.scalars(select(AuditRow).where(AuditRow.tenant == SYSTEM).order_by(AuditRow.seq)):
            row.previous_hash = previous
            row.hash = previous = audit.digest(vars(row))
        session.flush()
        session.execute(update(AuditHead).where(AuditHead.tenant == SYSTEM).values(hash=previous))
    pruning.prune(aged, heads, 5)
    assert problem(aged, heads) == "*: row 15 is not the one that was signed"
