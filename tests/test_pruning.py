"""Old rows of the audit go, by what the chain itself gives up, and the rest still holds."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update

from db import audit, clock, proof, pruning
from db.audit import Entry
from db.chains import AuditHead, AuditRow
from db.database import Database
from db.heads import Heads, HeadUnusable, hashes, vouch
from db.tenancy import SYSTEM
from tests.chains import lift


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
