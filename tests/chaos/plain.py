"""What everybody builds first, under the same kills: one Celery task for each image, `acks_late`, on Redis."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import redis
from celery import Celery

from tests.chaos.runs import Outcome
from tests.service import free_port, until
from worker import broker

_BETWEEN = 150  # images, or a kill would meet workers that only start
_PAUSE_SECONDS = 0.3
_VISIBILITY_SECONDS = 5
_QUIET_SECONDS = 4 * _VISIBILITY_SECONDS
_BACKLOG = 200
_WORKERS = 2
_TASK = "plain.store"


def app(port: int) -> Celery:
    made = Celery("plain", broker=f"redis://127.0.0.1:{port}/0")
    made.conf.update(
        task_acks_late=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        broker_transport_options={"visibility_timeout": _VISIBILITY_SECONDS},
        broker_connection_retry_on_startup=True,
    )
    return made


def work(port: int, database: str) -> None:
    made = app(port)

    @made.task(name=_TASK)  # type: ignore[untyped-decorator]
    def store(image: int) -> None:
        time.sleep(0.002)
        with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
            connection.execute("INSERT INTO results VALUES (?)", (image,))

    options = ["--pool=threads", "--concurrency=4", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    made.worker_main(["worker", "--loglevel=ERROR", *options])


def run(times: int, seed: int) -> Outcome:
    """Kill a worker `times` times while images are sent, wait until nothing moves, and count."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cxr-chaos-") as directory:
        home, port = Path(directory), free_port()
        database = home / "results.db"
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE results (image INTEGER)")
        valkey = subprocess.Popen([*broker.binary(), "--port", str(port), "--dir", directory, "--appendonly", "yes",
                                   "--save", ""], stdout=subprocess.DEVNULL)  # fmt: skip
        try:
            until(lambda: _answers(port), "the broker answers")
            sent = _kill_and_send(port, database, times, seed)
            rows = _settled(database)
        finally:
            valkey.kill()
            valkey.wait()
    lost, twice = sent - len(set(rows)), len(rows) - len(set(rows))
    return Outcome("plain", "sqlite", times, seed, sent, lost, twice, [], [], time.monotonic() - start)


def _answers(port: int) -> bool:
    try:
        with redis.Redis(port=port) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _kill_and_send(port: int, database: Path, times: int, seed: int) -> int:
    dice, workers, sent, over = random.Random(seed), [_worker(port, database) for _ in range(_WORKERS)], [0], [False]

    def send() -> None:
        made = app(port)
        with redis.Redis(port=port) as client:
            while not over[0]:
                if int(client.llen("celery")) > _BACKLOG:
                    time.sleep(0.01)
                    continue
                made.send_task(_TASK, args=[sent[0]])
                sent[0] += 1

    sender = threading.Thread(target=send)
    sender.start()
    for _ in range(times):
        enough = len(_stored(database)) + _BETWEEN
        until(partial(_has, database, enough), "the workers work")
        time.sleep(dice.uniform(0, _PAUSE_SECONDS))
        number = dice.randrange(_WORKERS)
        workers[number].send_signal(signal.SIGKILL)
        workers[number].wait()
        workers[number] = _worker(port, database)
    over[0] = True
    sender.join()
    _settled(database)
    for worker in workers:
        worker.kill()
        worker.wait()
    return sent[0]


def _worker(port: int, database: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.chaos.plain", str(port), str(database)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))


def _settled(database: Path) -> list[int]:
    """The rows, once none has come for several times the visibility timeout."""
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < _QUIET_SECONDS:
        rows = _stored(database)
        if len(rows) != seen:
            seen, since = len(rows), time.monotonic()
        time.sleep(0.5)
    return rows


def _has(database: Path, images: int) -> bool:
    return len(_stored(database)) >= images


def _stored(database: Path) -> list[int]:
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        return [image for (image,) in connection.execute("SELECT image FROM results")]


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2])
