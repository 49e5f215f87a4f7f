"""The audit chain: append-only, and any change is found."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db import audit, proof
from db.audit import Entry
from db.database import Database
from tests.chains import lift


@pytest.fixture
def chain(database: Database) -> Database:
    for number in range(5):
        with database.write() as session:
            audit.append(session, "test", [Entry("thing.done", f"thing:{number}", None, {"number": number})] * 2)
    return database


def problem(database: Database) -> str | None:
    with database.read() as session:
        return proof.verify(session).problem


def tamper(database: Database, *statements: str) -> None:
    """What someone with the database's own password could do."""
    with database.write() as session:
        lift(session)
        for statement in statements:
            session.execute(text(statement))


def test_an_untouched_chain_holds(chain: Database) -> None:
    with chain.read() as session:
        assert proof.verify(session) == proof.Verdict(10, None)


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"])
def test_the_database_refuses_changes(chain: Database, statement: str) -> None:
    with pytest.raises(DBAPIError, match="append-only"), chain.write() as session:
        session.execute(text(statement))
    assert problem(chain) is None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_heads SET pruned = seq",
        "UPDATE audit_heads SET pruned = seq - 1 WHERE tenant = '*'",
        "UPDATE audit_heads SET seq = seq - 1 WHERE tenant = '*'",
        "UPDATE audit_heads SET seq = seq + 1 WHERE tenant = '*'",
        "UPDATE audit_heads SET hash = 'x'",
        "UPDATE audit_heads SET tenant = 'x' WHERE tenant = '*'",
        "INSERT INTO audit_heads (tenant, seq, hash, pruned) VALUES ('x', 10, 'x', 10)",
        "DELETE FROM audit_heads",
    ],
)
def test_the_database_refuses_to_give_rows_up_or_to_turn_a_head_back(chain: Database, statement: str) -> None:
    """After it a DELETE would be allowed, or the end would be forgotten."""
    with pytest.raises(DBAPIError, match="append-only"), chain.write() as session:
        session.execute(text(statement))
    assert problem(chain) is None


@pytest.mark.parametrize("same", ["tenant, seq", "hash", "rowid"])
def test_the_database_refuses_to_replace_a_row(chain: Database, same: str) -> None:
    """A new row of the same key would take its place, on SQLite without a DELETE."""
    sqlite = chain.engine.name == "sqlite"
    if same == "rowid" and not sqlite:
        pytest.skip("PostgreSQL has no rowid")
    new = {"seq": "100", "hash": "'x'", "rowid": "NULL"} | {name: name for name in same.split(", ")}
    told = f"tenant, {new['seq']}, at, 'nobody', action, subject, detail, previous_hash, {new['hash']}"
    columns = "tenant, seq, at, actor, action, subject, detail, previous_hash, hash"
    old = "FROM audit WHERE seq = 4 AND tenant = '*'"
    statement = (
        f"INSERT OR REPLACE INTO audit ({columns}, rowid) SELECT {told}, {new['rowid']} {old}"
        if sqlite
        else f"INSERT INTO audit ({columns}) SELECT {told} {old} ON CONFLICT ({same}) DO UPDATE SET actor = 'nobody'"
    )
    with pytest.raises(DBAPIError, match="append-only"), chain.write() as session:
        session.execute(text(statement))
    assert problem(chain) is None


def test_a_temporary_table_does_not_stand_for_the_audits_head(chain: Database) -> None:
    with pytest.raises(DBAPIError, match="append-only"), chain.write() as session:
        session.execute(text("CREATE TEMPORARY TABLE audit_heads (tenant TEXT, seq BIGINT, pruned BIGINT)"))
        session.execute(text("INSERT INTO audit_heads VALUES ('*', 10, 10)"))
        main = "main" if chain.engine.name == "sqlite" else "public"
        session.execute(text(f"DELETE FROM {main}.audit"))
    assert problem(chain) is None


@pytest.mark.parametrize("column", ["at", "actor", "action", "subject", "detail", "previous_hash", "hash"])
def test_an_edit_of_any_column_is_found(chain: Database, column: str) -> None:
    tamper(chain, f"UPDATE audit SET {column} = {column} || 'x' WHERE seq = 4")
    assert problem(chain) == "*: row 4 was changed"


def test_a_deleted_row_is_found(chain: Database) -> None:
    tamper(chain, "DELETE FROM audit WHERE seq = 4")
    assert problem(chain) == "*: row 4 is missing"


def test_a_truncated_chain_is_found(chain: Database) -> None:
    tamper(chain, "DELETE FROM audit WHERE seq > 7")
    assert problem(chain) == "*: the head names row 10, the chain ends at 7"


def test_swapped_rows_are_found(chain: Database) -> None:
    tamper(
        chain,
        "UPDATE audit SET seq = 100 WHERE seq = 3",
        "UPDATE audit SET seq = 3 WHERE seq = 4",
        "UPDATE audit SET seq = 4 WHERE seq = 100",
    )
    assert problem(chain) == "*: row 3 was changed"


def test_a_failed_transaction_leaves_no_gap(chain: Database) -> None:
    with pytest.raises(RuntimeError), chain.write() as session:
        audit.append(session, "test", [Entry("thing.done", "thing:x", None, {})])
        raise RuntimeError
    with chain.write() as session:
        audit.append(session, "test", [Entry("thing.done", "thing:y", None, {})])
    assert problem(chain) is None
