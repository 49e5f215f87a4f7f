"""Signed heads: kept outside the database, they show what a chain that was written anew hides."""

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

import cxr
from db import audit, heads, migrate, proof
from db.audit import Entry
from db.database import Database
from db.heads import Head, Heads, HeadUnusable
from db.tenancy import SYSTEM
from settings import Settings
from tests.chains import lift


def add(database: Database, number: int = 3) -> None:
    with database.write() as session:
        audit.append(session, "test", [Entry("thing.done", "thing", None, {})] * number)


def signed(database: Database, own: Heads) -> Head:
    """Sign every chain, and return the head of the one that the tests write to."""
    with database.read() as session:
        return next(head for head in own.sign(session) if head.tenant == SYSTEM)


def kept(own: Heads) -> list[int]:
    return [head.seq for head in own.kept() if head.tenant == SYSTEM]


def verdict(database: Database, own: Heads) -> str | None:
    with database.read() as session:
        return proof.verify(session, heads.hashes(own.kept())).problem


def cut(database: Database, after: int) -> None:
    """What someone who holds the database can do: cut the chain and set the head to match."""
    with database.write() as session:
        lift(session)
        session.execute(text("DELETE FROM audit WHERE seq > :after AND tenant = '*'"), {"after": after})
        session.execute(
            text(
                "UPDATE audit_heads SET seq = :after, hash = (SELECT hash FROM audit WHERE seq = :after AND tenant = '*')"
                " WHERE tenant = '*'"
            ),
            {"after": after},
        )


def test_a_chain_cut_together_with_its_head_is_found_by_the_signed_one(database: Database, tmp_path: Path) -> None:
    own = Heads(tmp_path / "audit")
    add(database)
    signed(database, own)
    add(database)
    signed(database, own)
    assert verdict(database, own) is None
    cut(database, 4)
    with database.read() as session:
        assert proof.verify(session).problem is None, "the database alone cannot tell"
    assert verdict(database, own) == "*: row 6 was signed, the chain ends at 4"
    add(database, 2)
    assert verdict(database, own) == "*: row 6 is not the one that was signed"


def test_what_came_after_the_last_signed_head_is_not_protected_by_it(database: Database, tmp_path: Path) -> None:
    """The window that is left: it is why heads are signed every five minutes."""
    own = Heads(tmp_path / "audit")
    add(database)
    signed(database, own)
    add(database)
    cut(database, 3)
    assert verdict(database, own) is None


def test_the_key_is_made_once_and_its_owner_alone_can_read_it(database: Database, tmp_path: Path) -> None:
    first = signed(database, Heads(tmp_path / "audit"))
    assert signed(database, Heads(tmp_path / "audit")).key == first.key
    assert stat.S_IMODE((tmp_path / "audit" / "signing.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "audit").stat().st_mode) == 0o700
    assert signed(database, Heads(tmp_path / "other")).key != first.key, "no key is built in"
    assert {path.name for path in (tmp_path / "audit").iterdir()} == {"_system.ndjson", "default.ndjson", "signing.key"}


def test_an_unchanged_chain_adds_no_line(database: Database, tmp_path: Path) -> None:
    own = Heads(tmp_path / "audit")
    add(database)
    signed(database, own)
    signed(database, own)
    assert kept(own) == [3]
    add(database)
    signed(database, own)
    assert kept(own) == [3, 6]


def test_a_line_that_the_power_cut_off_is_taken_back(database: Database, tmp_path: Path) -> None:
    own = Heads(tmp_path / "audit")
    signed(database, own)
    with (tmp_path / "audit" / "_system.ndjson").open("a") as file:
        file.write('{"seq": 1')
    add(database)
    signed(database, own)
    assert kept(own) == [0, 3]


@pytest.mark.parametrize(
    "change", [{"tenant": "default"}, {"seq": 2}, {"hash": "f" * 64}, {"at": "2020"}, {"signature": "00"}]
)
def test_a_head_that_was_changed_is_refused(database: Database, tmp_path: Path, change: dict[str, object]) -> None:
    add(database)
    head = signed(database, Heads(tmp_path / "audit"))
    head.check(head.key)
    with pytest.raises(HeadUnusable, match="not signed by"):
        Head(**vars(head) | change).check(head.key)


def test_a_head_of_another_key_is_refused(database: Database, tmp_path: Path) -> None:
    theirs = signed(database, Heads(tmp_path / "theirs"))
    ours = signed(database, Heads(tmp_path / "ours"))
    with pytest.raises(HeadUnusable, match="not signed by"):
        theirs.check(ours.key)


def test_what_is_no_head_is_said_to_be_none() -> None:
    for line in ("{", "[]", '{"seq": 1}'):
        with pytest.raises(HeadUnusable, match="no signed head"):
            Head.read(line)


# The commands


def run(settings: Settings, *words: object) -> Result:
    return CliRunner().invoke(cxr.main, ["audit", *map(str, words)], env=settings.environment())


@pytest.fixture
def home(settings: Settings) -> Settings:
    database = Database(settings.database_url)
    migrate.upgrade(database)
    add(database)
    database.close()
    return settings


@pytest.mark.sqlite
def test_an_auditor_verifies_with_a_head_and_a_key_of_their_own(home: Settings, tmp_path: Path) -> None:
    """The directory is gone; what was printed and kept elsewhere is enough."""
    printed = run(home, "head").stdout
    theirs = tmp_path / "kept.json"
    theirs.write_text(printed)
    key = Head.read(printed.splitlines()[0]).key
    for file in home.audit_heads.iterdir():
        file.unlink()
    assert run(home, "verify", "--head", theirs).exit_code == 1, "no key to trust"
    answer = run(home, "verify", "--head", theirs, "--key", key)
    assert (answer.exit_code, "2 signed heads agree" in answer.stdout) == (0, True), answer.output
    database = Database(home.database_url)
    cut(database, 2)
    database.close()
    answer = run(home, "verify", "--head", theirs, "--key", key)
    assert (answer.exit_code, "row 3 was signed, the chain ends at 2" in answer.stderr) == (1, True)
    assert run(home, "verify", "--head", theirs, "--key", "00" * 32).exit_code == 1


@pytest.mark.sqlite
def test_verify_compares_with_the_heads_that_were_kept(home: Settings) -> None:
    assert "none of them signed yet" in run(home, "verify").stdout
    assert run(home, "head").exit_code == 0
    assert "2 signed heads agree" in run(home, "verify").stdout
    database = Database(home.database_url)
    cut(database, 1)
    database.close()
    answer = run(home, "verify")
    assert (answer.exit_code, "row 3 was signed, the chain ends at 1" in answer.stderr) == (1, True)
