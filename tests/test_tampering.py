"""Random edits, deletions, swaps and truncations of the audit, ten thousand in CI, and each of them is found."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

import cxr
from db import audit, migrate, proof
from db.audit import Entry
from db.chains import AuditRow
from db.database import Database
from db.heads import Heads
from db.tenancy import SYSTEM
from terminal import Exit
from tests.chains import lift
from tests.examples import TIMES

_ROWS = 24
_TIMES = {"sqlite": 2_000 * TIMES, "postgresql": 100 * TIMES}
_TEXTS = ("at", "actor", "origin", "action", "subject", "batch_id", "detail", "previous_hash", "hash")

Rows = list[dict[str, Any]]
Attack = Callable[[random.Random, Rows], Rows]


def edit(dice: random.Random, rows: Rows) -> Rows:
    """One column of one row becomes something else: another row's, a letter more or less, nothing, another number."""
    row, column = dice.choice(rows), dice.choice(_TEXTS)
    before = row[column]
    others = [other[column] for other in rows if other[column] != before]
    changed = [f"{before}x", f"x{before}", *others] + ([before[:-1], before.swapcase()] if before else [])
    if column in {"origin", "batch_id"}:
        changed.append(None)
    row[column] = dice.choice([value for value in changed if value != before])
    return rows


def edit_and_hash(dice: random.Random, rows: Rows) -> Rows:
    """The same by someone who can compute a row's hash."""
    row = dice.choice(edit(dice, rows))
    row["detail"] = f'{{"label":"negative","n":{dice.random()}}}'
    row["hash"] = audit.digest(row)
    return rows


def write_anew(dice: random.Random, rows: Rows) -> Rows:
    """The same by someone patient: everything from there on is hashed again, and the head with it."""
    start = dice.randrange(len(rows))
    rows[start]["actor"] = "nobody"
    return chained(rows)


def delete(dice: random.Random, rows: Rows) -> Rows:
    gone = dice.sample(range(len(rows) - 1), dice.randint(1, 4))
    return [row for number, row in enumerate(rows) if number not in gone]


def delete_and_close_the_gap(dice: random.Random, rows: Rows) -> Rows:
    kept = delete(dice, rows)
    return [row | {"seq": number} for number, row in enumerate(kept, 1)]


def delete_and_write_anew(dice: random.Random, rows: Rows) -> Rows:
    return chained(delete_and_close_the_gap(dice, rows))


def swap(dice: random.Random, rows: Rows) -> Rows:
    one, other = dice.sample(rows, 2)
    one["seq"], other["seq"] = other["seq"], one["seq"]
    return sorted(rows, key=lambda row: int(row["seq"]))


def give_away(dice: random.Random, rows: Rows) -> Rows:
    """A row, or all of them from there on, becomes another hospital's."""
    start = dice.randrange(len(rows))
    for row in rows[start : dice.choice([start + 1, len(rows)])]:
        row["tenant"] = "default"
    return rows


def truncate(dice: random.Random, rows: Rows) -> Rows:
    return rows[: dice.randrange(len(rows))]


def chained(rows: Rows) -> Rows:
    previous = audit.genesis(SYSTEM)
    for row in rows:
        row["previous_hash"] = previous
        previous = row["hash"] = audit.digest(row)
    return rows


ATTACKS: tuple[Attack, ...] = (
    edit,
    edit_and_hash,
    write_anew,
    delete,
    delete_and_close_the_gap,
    delete_and_write_anew,
    swap,
    give_away,
    truncate,
)


@pytest.fixture
def chain(database: Database) -> Database:
    with database.write() as session:
        for number in range(_ROWS):
            batch_id = f"batch_{number % 3}" if number % 2 else None
            entry = Entry(f"thing.{number % 5}", f"thing:{number}", batch_id, {"number": number})
            with audit.coming_from(f"10.0.0.{number % 7}"):
                audit.append(session, f"worker-{number % 4}", [entry])
    return database


def rows_of(session: Session) -> Rows:
    return [dict(row) for row in session.execute(select(AuditRow.__table__).order_by(AuditRow.seq)).mappings()]


def put(session: Session, rows: Rows, *, head: bool) -> None:
    """Set the table to these rows, and the head to their end if the attacker thought of that."""
    names = [column.name for column in AuditRow.__table__.columns]
    session.execute(text("DELETE FROM audit"))
    if rows:
        values = ", ".join(f":{name}" for name in names)
        session.execute(text(f"INSERT INTO audit ({', '.join(names)}) VALUES ({values})"), rows)
    mine = [row for row in rows if row["tenant"] == SYSTEM]
    if head:
        seq, digest = (mine[-1]["seq"], mine[-1]["hash"]) if mine else (0, audit.genesis(SYSTEM))
        session.execute(
            text("UPDATE audit_heads SET seq = :seq, hash = :hash WHERE tenant = '*'"), {"seq": seq, "hash": digest}
        )


@pytest.mark.scaled
@pytest.mark.timeout(1200)
def test_every_tampering_is_found(chain: Database) -> None:
    """With the triggers lifted, as by someone with the database's own password; the head at the end was signed."""
    dialect = chain.engine.dialect.name
    dice = random.Random(20261123)
    with chain.write() as session:
        lift(session)
        original = rows_of(session)
    signed = {(SYSTEM, original[-1]["seq"]): original[-1]["hash"]}
    found = found_by_the_signature_alone = 0
    while found < _TIMES[dialect]:
        attack, head = dice.choice(ATTACKS), dice.random() < 0.5
        tampered = attack(dice, [dict(row) for row in original])
        assert tampered != original
        with chain.engine.connect() as connection, Session(connection) as session:
            try:
                put(session, tampered, head=head)
            except IntegrityError:
                continue  # the table itself refuses two rows of one hash
            assert proof.verify(session, signed).problem is not None, f"after {found}: {attack.__name__}, head {head}"
            found_by_the_signature_alone += proof.verify(session).problem is None
        found += 1
    assert found_by_the_signature_alone > _TIMES[dialect] / 20, "these are what the signed head is for"
    with chain.read() as session:
        assert proof.verify(session, signed).problem is None, "and the chain as it was still holds"


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_the_command_finds_each_kind_by_a_signed_head(chain: Database, attack: Attack, tmp_path: Path) -> None:
    kept, heads = tmp_path / "kept", Heads(tmp_path / "heads")
    environment = {"CXR_HOME": str(tmp_path), "DATABASE_URL": chain.url.replace("+psycopg", "")}

    def verify() -> Result:
        words = ["audit", "verify", "--head", str(kept), "--key", str(heads.public)]
        return CliRunner().invoke(cxr.main, words, env=environment)

    with chain.write() as session:
        kept.write_text("".join(f"{head.line()}\n" for head in heads.sign(session)))
        original = rows_of(session)
    assert verify().exit_code == Exit.DONE
    with chain.write() as session:
        lift(session)
        put(session, attack(random.Random(7), original), head=True)
    answer = verify()
    assert (answer.exit_code, "the audit does not hold" in answer.stderr) == (Exit.PROBLEM, True), answer.output


def test_a_chain_that_nobody_touched_holds(chain: Database) -> None:
    with chain.read() as session:
        rows = rows_of(session)
        assert proof.verify(session, {(SYSTEM, row["seq"]): row["hash"] for row in rows[::5]}).problem is None


def test_postgresql_refuses_to_truncate_the_audit(database: Database) -> None:
    if database.engine.dialect.name == "sqlite":
        return  # it has no TRUNCATE; DELETE is refused
    with pytest.raises(Exception, match="append-only"), database.write() as session:
        session.execute(text("TRUNCATE audit"))
    with pytest.raises(Exception, match="append-only"), database.write() as session:
        session.execute(text("TRUNCATE audit CASCADE"))


def test_the_migrations_leave_the_triggers(database_url: str) -> None:
    database = Database(database_url)
    migrate.upgrade(database)
    for statement in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit"):
        with database.write() as session:
            audit.append(session, "test", [Entry("thing.done", "thing", None, {})])
        with pytest.raises(Exception, match="append-only"), database.write() as session:
            session.execute(text(statement))
    database.close()
