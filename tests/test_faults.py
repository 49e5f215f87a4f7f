"""What breaks while images are under way, with the real model; `tests/chaos` breaks much more with a stand-in."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

import up
from db import heartbeats
from db.blobs import Blobs
from db.tables import Image, ImageState, Model, Outcome, Result
from settings import Settings
from tests.postgres import Postgres
from tests.service import Service, free_port, until

Radiograph = Callable[[int], bytes]


def settings(home: Path, **more: str) -> Settings:
    given = {"CXR_HOME": str(home), "CXR_PORT": str(free_port()), "CXR_SWEEP_SECONDS": "1"}
    given |= {"CXR_LEASE_SECONDS": "6", "CXR_DECODE_SECONDS": "2"}
    made = Settings.from_environment(given | more)
    up.bring_up_to_date(made)
    return made


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An instance with short leases."""
    with Service.started(settings(tmp_path_factory.mktemp("fragile"))) as service:
        yield service


@pytest.fixture
def fragile(instance: Service, radiograph: Radiograph) -> Service:
    """The instance, whole again after what the test before broke."""
    until(lambda: ready(instance), "the API is back")
    instance.wait(instance.submit({"a.png": radiograph(0)}))
    return instance


def part(service: Service, name: str) -> subprocess.Popen[bytes]:
    """The process of that name, as the instance started it."""
    process = next(one.process for one in service.instance._parts if one.name == name)
    assert process
    return process


def leased(service: Service) -> bool:
    with service.database.read() as session:
        return bool(session.scalar(select(func.count()).where(Image.state == ImageState.LEASED)))


def nothing_lost_nothing_twice(service: Service, batch_id: str, count: int) -> None:
    lines = service.wait(batch_id)
    assert [line.state for line in lines] == [ImageState.CLASSIFIED] * count
    with service.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Result).where(Result.batch_id == batch_id)) == count
    assert service.audit().problem is None


def night(radiograph: Radiograph, count: int = 300) -> dict[str, bytes]:
    return {f"{number}.png": radiograph(number) for number in range(count)}


def test_a_killed_workers_images_are_classified_by_another(fragile: Service, radiograph: Radiograph) -> None:
    batch_id = fragile.submit(night(radiograph))
    until(lambda: leased(fragile), "a claim")
    os.killpg(part(fragile, "worker-1").pid, signal.SIGKILL)
    nothing_lost_nothing_twice(fragile, batch_id, 300)


def put_to_sleep(service: Service, worker: subprocess.Popen[bytes]) -> None:
    """Stop it, but not inside a transaction: SQLite has one lock, and who sleeps with it stops everyone."""

    def stopped() -> bool:
        os.kill(worker.pid, signal.SIGSTOP)
        until(lambda: all(state == "T" for state in thread_states(worker.pid)), "every thread stands still")
        with contextlib.closing(sqlite3.connect(service.settings.home / "cxr.db", timeout=0.2)) as probe:
            try:
                probe.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(worker.pid, signal.SIGCONT)
                return False
            return True

    until(stopped, "the worker sleeps outside a transaction")


def thread_states(pid: int) -> list[str]:
    return [stat.read_text().rpartition(") ")[2][0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")]


def test_a_worker_that_is_told_to_stop_finishes_what_it_holds(fragile: Service, radiograph: Radiograph) -> None:
    batch_id = fragile.submit(night(radiograph))
    until(lambda: leased(fragile), "a claim")
    worker = part(fragile, "worker-1")
    worker.terminate()
    assert worker.wait(30) == 0
    assert not leased(fragile)
    nothing_lost_nothing_twice(fragile, batch_id, 300)  # the instance started it again


def ready(service: Service) -> bool:
    with contextlib.suppress(Exception):
        return service.http.get("/readyz").is_success
    return False


def test_damaged_weights_are_never_used(fragile: Service, radiograph: Radiograph) -> None:
    with fragile.database.read() as session:
        sha256 = session.scalars(select(Model.weights_sha256)).one()
    weights = Blobs(fragile.settings.blobs).path(sha256)
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"x")
    os.killpg(part(fragile, "worker-1").pid, signal.SIGKILL)
    batch_id = fragile.submit(night(radiograph, 3))
    log = fragile.settings.home / "logs" / "worker-1.log"
    until(lambda: "missing or damaged" in log.read_text(), "the worker says why it does not work")
    assert fragile.progress(batch_id).done == 0
    weights.write_bytes(whole)
    nothing_lost_nothing_twice(fragile, batch_id, 3)


def test_a_lost_blob_costs_one_image(fragile: Service, radiograph: Radiograph) -> None:
    worker = part(fragile, "worker-1")
    put_to_sleep(fragile, worker)
    batch_id = fragile.submit({"a.png": radiograph(1), "b.png": radiograph(2)})
    with fragile.database.read() as session:
        mine = select(Image.sha256).where(Image.batch_id == batch_id, Image.custom_id == "a.png")
        lost = session.scalars(mine).one()
    Blobs(fragile.settings.blobs).path(lost).unlink()
    os.kill(worker.pid, signal.SIGCONT)
    lines = fragile.wait(batch_id)
    assert [(line.state, line.code) for line in lines] == [("quarantined", "image_lost"), ("classified", None)]
    assert fragile.progress(batch_id).outcome == Outcome.PARTIAL


@pytest.mark.long
def test_several_machines_share_postgresql_a_broker_and_the_blobs(
    postgresql: Postgres, tmp_path: Path, radiograph: Radiograph
) -> None:
    """The topology of docker-compose.yml without containers: separate homes, one database, one blob directory."""
    url = postgresql.database()
    front = settings(tmp_path / "front", DATABASE_URL=url, CXR_BLOBS=str(tmp_path / "blobs"))
    with Service.started(front) as service:
        homes = [tmp_path / "one", tmp_path / "two"]
        workers = [machine(home, front, {"CXR_BATCH_SIZE": "16"}) for home in homes]
        try:
            until(lambda: alive(service) == 3, "both other workers are heard of")
            part(service, "worker-1").send_signal(signal.SIGSTOP)  # the front end's own stands aside
            nothing_lost_nothing_twice(service, service.submit(night(radiograph, 400)), 400)
            with service.database.read() as session:
                assert len(session.scalars(select(Result.worker).distinct()).all()) >= 2
        finally:
            for worker in workers:
                worker.terminate()
            assert [worker.wait(60) for worker in workers] == [0, 0]
            part(service, "worker-1").send_signal(signal.SIGCONT)
    postgresql.drop(url)


def machine(home: Path, front: Settings, more: dict[str, str]) -> subprocess.Popen[bytes]:
    """A worker with a home of its own."""
    home.mkdir()
    environment = os.environ | front.environment() | {"CXR_HOME": str(home)} | more
    with (home / "worker.log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-m", "cxr", "worker"], env=environment, stdout=log, stderr=log)


def alive(service: Service) -> int:
    with service.database.read() as session:
        return sum(sign.alive for sign in heartbeats.signs(session))
