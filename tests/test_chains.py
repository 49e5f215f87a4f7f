"""A chain of the audit for each hospital: nobody waits for another's, and nobody reads another's."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from db import audit, batches, proof, queue, registry, tenants
from db.audit import Entry
from db.batches import Item
from db.chains import AuditHead, AuditRow
from db.database import Database
from db.tables import Lane
from db.tenancy import SYSTEM
from tests.chains import lift
from tests.queueing import finding

pytestmark = pytest.mark.usefixtures("champion")
NORTH, SOUTH = "north", "south"


@pytest.fixture(autouse=True)
def hospitals(database: Database) -> None:
    with database.write() as session:
        for tenant in (NORTH, SOUTH):
            tenants.add(session, tenant, actor="test")


def submit(database: Database, tenant: str, count: int = 1) -> str:
    items = [Item(f"{number}.png", f"{number:064d}", 1, "image/png") for number in range(count)]
    with database.of(tenant).write() as session:
        return batches.add(session, items, lane=Lane.ROUTINE, actor="test").id


def actions(database: Database, tenant: str) -> list[str]:
    with database.read() as session:
        rows = select(AuditRow.action).where(AuditRow.tenant == tenant).order_by(AuditRow.seq)
        return list(session.scalars(rows))


def _claimed(database: Database, limit: int) -> queue.Claim | None:
    with database.write() as session:
        return queue.claim(session, Lane.ROUTINE, limit, lease_seconds=60, alone=False)


def _store(database: Database, held: queue.Claim) -> None:
    with database.write() as session:
        queue.finish(session, held, [finding(image) for image in held.images], [], worker="w1")


def work(database: Database) -> None:
    held = _claimed(database, 64)
    assert held
    _store(database, held)


def holds(database: Database) -> bool:
    with database.read() as session:
        return proof.verify(session).problem is None


def test_what_happens_to_a_batch_stands_in_its_hospitals_chain(database: Database) -> None:
    submit(database, NORTH)
    submit(database, SOUTH)
    work(database)
    for tenant in (NORTH, SOUTH):
        assert actions(database, tenant) == ["batch.submitted", "image.classified", "batch.completed"]
    assert sorted(actions(database, SYSTEM)) == ["model.appointed", "model.registered"] + 2 * ["tenant.created"]
    assert holds(database)


def test_a_hospital_reads_its_own_chain_alone(database: Database) -> None:
    submit(database, NORTH)
    submit(database, SOUTH, 3)
    with database.of(NORTH).read() as session:
        assert {row.tenant for row in session.scalars(select(AuditRow))} == {NORTH}
        assert [head.tenant for head in session.scalars(select(AuditHead))] == [NORTH]
        assert proof.verify(session) == proof.Verdict(1, None)


def test_postgresql_itself_shows_a_hospital_no_other_chain(database: Database) -> None:
    submit(database, SOUTH)
    if database.engine.dialect.name == "sqlite":
        return
    with database.of(NORTH).read() as session:
        owner = session.execute(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")).scalar_one()
        if not owner:  # row-level security does not hold for a superuser
            assert session.execute(text("SELECT count(*) FROM audit")).scalar_one() == 0


def test_hospitals_do_not_wait_for_each_other(database: Database) -> None:
    """On PostgreSQL; SQLite has one writer for all."""
    if database.engine.dialect.name == "sqlite":
        return
    with database.of(NORTH).write() as session:
        audit.hold(session)
        with database.of(SOUTH).write() as other:
            other.execute(text("SET LOCAL lock_timeout = '3s'"))
            audit.append(other, "test", [Entry("thing.done", "thing", None, {})])
        with pytest.raises(DBAPIError, match="lock timeout"), database.of(NORTH).write() as same:
            same.execute(text("SET LOCAL lock_timeout = '300ms'"))
            audit.append(same, "test", [Entry("thing.done", "thing", None, {})])
    assert actions(database, SOUTH) == ["thing.done"]


def _catching(act: Callable[[Database], None], database: Database, failed: list[Exception]) -> None:
    try:
        act(database)
    except Exception as error:  # noqa: BLE001 - a thread's failure must reach the test
        failed.append(error)


def _finish(database: Database) -> None:
    """Micro-batches of five, which hold images of both hospitals, until there are none."""
    while held := _claimed(database, 5):
        _store(database, held)


def _look(database: Database) -> None:
    """At results of one hospital after the other, and purge between."""
    for number in range(20):
        with database.of((NORTH, SOUTH)[number % 2]).write() as session:
            audit.append(session, "test", [Entry("result.viewed", "result", None, {})])
        with database.write() as session:
            audit.hold_every(session)


def test_workers_that_finish_images_of_several_hospitals_at_once_never_block_each_other(database: Database) -> None:
    """Each micro-batch holds images of both, in both orders, while both hospitals submit, cancel and look."""
    for number in range(12):
        for tenant in (NORTH, SOUTH) if number % 2 else (SOUTH, NORTH):
            submit(database, tenant, 3)
    failed: list[Exception] = []
    threads = [threading.Thread(target=_catching, args=(act, database, failed)) for act in 3 * [_finish] + 2 * [_look]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert holds(database)
    for tenant in (NORTH, SOUTH):
        assert actions(database, tenant).count("image.classified") == 36
        assert actions(database, tenant).count("batch.completed") == 12


def test_a_chain_that_is_gone_with_its_head_is_found_by_what_was_signed(database: Database) -> None:
    submit(database, NORTH)
    with database.read() as session:
        end = session.get_one(AuditHead, NORTH)
        signed = {(NORTH, end.seq): end.hash}
        assert proof.verify(session, signed).problem is None
    with database.write() as session:
        lift(session)
        session.execute(text("UPDATE audit_heads SET tenant = 'gone' WHERE tenant = 'north'"))
    with database.read() as session:
        assert proof.verify(session).problem == "north: there are rows, and no head"
        assert proof.verify(session, signed).problem == "north: the chain was signed, and is gone"


def test_no_chain_passes_for_another_hospitals(database: Database) -> None:
    """Its rows do not name the hospital, but its first row does."""
    assert audit.genesis(NORTH) != audit.genesis(SOUTH) != audit.genesis(SYSTEM)
    submit(database, NORTH)
    with database.write() as session:
        lift(session)
        session.execute(text("DELETE FROM audit_heads WHERE tenant = 'south'"))
        session.execute(text("UPDATE audit_heads SET tenant = 'south' WHERE tenant = 'north'"))
        session.execute(text("UPDATE audit SET tenant = 'south' WHERE tenant = 'north'"))
    with database.read() as session:
        assert proof.verify(session).problem == "south: row 1 was changed"


def test_a_model_belongs_to_no_hospital(database: Database) -> None:
    with database.write() as session:
        registry.appoint(session, "candidate", "test-1", actor="cli:me")
    assert actions(database, SYSTEM)[-1] == "model.appointed"
    assert holds(database)
