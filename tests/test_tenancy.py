"""One hospital never sees another's rows: the filter of every query, and PostgreSQL's own wall behind it."""

from collections.abc import Callable

import pytest
from sqlalchemy import CheckConstraint, delete, exists, func, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session, aliased

from db import batches, ending, idempotency, migrate, queue, registry, results, tables, tenancy, tenants
from db.batches import Item
from db.blobs import Blobs
from db.database import Database
from db.results import Search
from db.tables import Batch, Image, Lane, Result, Table, Tenant
from db.tenancy import Belonging
from tests.queueing import finding

BEFORE = "0011"
OWNED = {str(one.local_table) for one in Table.registry.mappers if issubclass(one.class_, Belonging)}


@pytest.fixture
def two(database: Database, champion: registry.Card) -> tuple[Database, Database]:
    """The database as two hospitals see it, each with one classified image."""
    assert champion
    with database.write() as session:
        for name in ("here", "there"):
            tenants.add(session, name, actor="test")
    for name in ("here", "there"):
        with database.of(name).write() as session:
            batch = batches.add(session, [Item("a", "0" * 64, 1, "image/png")], lane=Lane.ROUTINE, actor="test")
            idempotency.reserve(session, "the same", "f", tenant=name, batch_id=batch.id)
    with database.write() as session:
        held = queue.claim(session, Lane.ROUTINE, 2, lease_seconds=60, alone=False)
        assert held
        queue.finish(session, held, [finding(image) for image in held.images], [], worker="w1")
    return database.of("here"), database.of("there")


Query = Callable[[Session], int]
QUERIES: dict[str, Query] = {
    "entities": lambda session: len(session.scalars(select(Batch)).all()),
    "columns": lambda session: len(session.scalars(select(Image.sha256)).all()),
    "count": lambda session: session.scalars(select(func.count()).select_from(Result)).one(),
    "count by where": lambda session: session.scalars(select(func.count()).where(Image.sha256 == "0" * 64)).one(),
    "alias": lambda session: len(session.scalars(select(aliased(Image).id)).all()),
    "join": lambda session: len(session.execute(select(Result.id).join(Image, Image.id == Result.image_id)).all()),
    "exists": lambda session: 2 * session.scalars(select(exists().where(Image.tenant != "here"))).one() + 1,
    "subquery": lambda session: len(
        session.scalars(select(Batch.id).where(Batch.id.in_(select(Image.batch_id)))).all()
    ),
    "in a subquery alone": lambda session: session.scalars(
        select(func.count()).select_from(select(Image.id).subquery())
    ).one(),
    "update": lambda session: len(session.execute(update(Image).values(attempts=9).returning(Image.id)).all()),
    "delete": lambda session: len(session.execute(delete(Result).returning(Result.id)).all()),
    "newest": lambda session: len(batches.newest(session, limit=9)),
    "search": lambda session: len(results.newest(session, Search(), limit=9)),
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_sees_ones_own_and_nothing_else(two: tuple[Database, Database], name: str) -> None:
    with two[0].write() as session:
        assert QUERIES[name](session) == 1


@pytest.mark.parametrize("name", sorted(set(QUERIES) - {"exists"}))
def test_the_system_sees_every_hospital(database: Database, two: tuple[Database, Database], name: str) -> None:
    del two
    with database.write() as session:
        assert QUERIES[name](session) == 2


def test_nobody_sees_nothing(database: Database, two: tuple[Database, Database]) -> None:
    del two
    with database.of("").write() as session:
        assert [QUERIES[name](session) for name in sorted(set(QUERIES) - {"exists"})] == [0] * (len(QUERIES) - 1)


def test_anothers_batch_is_not_there_by_its_id_either(two: tuple[Database, Database]) -> None:
    here, there = two
    with there.read() as session:
        (theirs,) = batches.newest(session, limit=9)
        (result,) = results.newest(session, Search(), limit=9)
    with here.write() as session:
        assert batches.progress(session, theirs.id) is None
        assert batches.find(session, theirs.id) is None
        assert list(batches.lines(session, theirs.id)) == []
        assert results.one(session, result.result.id) is None
        assert ending.stop_leftovers(session, worker="w1") == 0


def test_each_hospital_has_its_own_idempotency_keys(two: tuple[Database, Database]) -> None:
    found = []
    for database in two:
        with database.read() as session:
            known = idempotency.earlier(session, "the same", "f")
            found.append(known.batch_id if known else None)
    assert None not in found
    assert len(set(found)) == 2


def test_a_row_without_a_hospital_is_refused(database: Database, champion: registry.Card) -> None:
    assert champion
    item = Item("a", "0" * 64, 1, "image/png")
    with pytest.raises(IntegrityError), database.write() as session:
        batches.add(session, [item], lane=Lane.ROUTINE, actor="test")


def test_an_image_belongs_to_its_batchs_hospital(database: Database, two: tuple[Database, Database]) -> None:
    with two[1].read() as session:
        (theirs,) = batches.newest(session, limit=9)
    row = {"batch_id": theirs.id, "custom_id": "b", "sha256": "0", "bytes": 1, "media_type": "", "lane": "routine"}
    with pytest.raises(IntegrityError), database.of("here").write() as session:
        tables.insert_rows(session, Image, [row | {"state": "queued"}])


def test_every_owned_table_stands_behind_postgresqls_wall(database: Database) -> None:
    if database.engine.name == "sqlite":
        pytest.skip("SQLite has no row-level security; the filter is all there is")
    with database.read() as session:
        rows = session.execute(text("SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class"))
        behind = {name for name, both in rows if both}
        assert not session.scalar(text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"))
    assert behind == OWNED
    assert behind >= {"batches", "images", "results", "idempotency_keys", "api_keys"}


def test_the_wall_stands_where_a_query_goes_round_the_filter(two: tuple[Database, Database]) -> None:
    here, _ = two
    if here.engine.name == "sqlite":
        pytest.skip("SQLite has no row-level security; the filter is all there is")
    for table in ("batches", "images", "results", "idempotency_keys"):
        with here.write() as session:
            counted = f"SELECT count(*) FROM {table}"
            assert session.scalar(text(counted)) == 1, table
            session.execute(text("SELECT set_config('cxr.tenant', '', true)"))
            assert session.scalar(text(counted)) == 0, "who does not say whose rows they want gets none"
    with pytest.raises(DBAPIError, match="row-level security"), here.write() as session:
        session.execute(text("UPDATE batches SET tenant = 'there'"))


def test_what_was_there_before_belongs_to_the_default_tenant(database_url: str) -> None:
    database = Database(database_url)
    migrate.upgrade(database, BEFORE)
    before = {
        "models": "VALUES ('m', 'w', 'p', 0.5, 1, 0, 'f', '{}', '{}', CURRENT_TIMESTAMP)",
        "batches": "(id, lane, state, model_version, total, synthetic, submitted_at)"
        " VALUES ('b', 'routine', 'processing', 'm', 1, false, CURRENT_TIMESTAMP)",
        "images": "(id, batch_id, custom_id, sha256, bytes, media_type, lane, state, attempts, strikes, alone)"
        " VALUES (7, 'b', 'a', 's', 1, 'image/png', 'routine', 'queued', 0, 0, false)",
        "results": "VALUES ('r', 7, 'b', 's', 'm', 'w', 'p', 0.1, 0.1, 0.5, 'negative', '[]', 'w1', 1, 1,"
        " CURRENT_TIMESTAMP, NULL)",
        "idempotency_keys": "(key, fingerprint, batch_id, at) VALUES ('k', 'f', 'b', CURRENT_TIMESTAMP)",
    }
    with database.engine.begin() as connection:
        for table, row in before.items():
            connection.exec_driver_sql(f"INSERT INTO {table} {row}")
    migrate.upgrade(database)
    with database.of(tenancy.DEFAULT).read() as session:
        assert [line.result_id for line in batches.lines(session, "b")] == ["r"]
        known = idempotency.earlier(session, "k", "f")
        assert known
        assert known.batch_id == "b"
    migrate.downgrade(database, BEFORE)
    with database.engine.begin() as connection:
        for table in before:
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 1
    database.close()


def test_no_rule_of_a_table_is_lost_where_sqlite_made_it_anew(database: Database) -> None:
    inspector = inspect(database.engine)
    for table in Table.metadata.sorted_tables:
        kept = {check["name"] for check in inspector.get_check_constraints(table.name)}
        written = {str(rule.name) for rule in table.constraints if isinstance(rule, CheckConstraint)}
        assert kept == written, table.name


def test_a_purge_leaves_what_another_hospital_still_needs(
    two: tuple[Database, Database], database: Database, blobs: Blobs
) -> None:
    from db import purging  # noqa: PLC0415

    path = blobs.path("0" * 64)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    for own, left in ((two[0], True), (two[1], False)):
        with own.write() as session:
            (mine,) = batches.newest(session, limit=9)
            found = batches.find(session, mine.id)
            assert found
            purging.mark(session, found, actor="test")
        purging.remove(database, blobs, mine.id)
        assert path.exists() == left


def test_a_tenants_name_is_a_plain_word(database: Database) -> None:
    with database.write() as session:
        for name in ("", "*", "St. Mary", "x" * 64, "default"):
            with pytest.raises(tenants.TenantUnusable):
                tenants.add(session, name, actor="test")
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(insert(Tenant).values(id="*", created_at=text("CURRENT_TIMESTAMP")))
