"""The trainer: a process of its own, of the lowest priority, that carries out one retraining run at a time."""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from celery import Celery
from celery.signals import worker_shutting_down
from sqlalchemy.exc import DBAPIError

from db import queue, retraining, slots
from db.blobs import Blobs
from db.database import Database
from db.retraining import LeaseLost, RetrainingRun, RunState, RunUnfinished
from settings import Settings
from worker import device, priority
from worker.decoders import Decoders
from worker.posts import Posts
from worker.tickets import RETRAIN, RETRAINING_QUEUE, TRAIN, Tickets, celery_app

if TYPE_CHECKING:
    from training.retraining import Parts

log = logging.getLogger(__name__)

_MINUTE = 16  # characters of an ISO time


class Stopped(Exception):
    """The run is to be cancelled, or this process is to end, or the run is no longer ours."""


def run(settings: Settings) -> None:
    """Carry out what is asked for until SIGTERM; a run that is not finished then goes on at the next start."""
    priority.yield_to_everybody()
    app = celery_app(settings)
    database = Database(settings.database_url)
    stopping = threading.Event()
    worker_shutting_down.connect(lambda **_: stopping.set(), weak=False)
    decoders = Decoders(1, seconds=settings.decode_seconds, address_space=settings.decode_bytes)
    device.prepare()
    from training.retraining import Parts  # noqa: PLC0415 - loads TensorFlow, which the device must precede

    stand_back = priority.StandBack(_line_is_busy(database), settings.trainer_share / 100, stopping.wait)
    parts = Parts(settings, database, Blobs(settings.blobs), decoders, stand_back)
    trainer = Trainer(parts, Tickets(app, batch_size=1), stopping)
    app.task(name=RETRAIN)(trainer.ask_by_the_clock)
    app.task(name=TRAIN)(trainer.look)
    threading.Thread(target=trainer.look_now_and_then, daemon=True).start()
    try:
        _consume(app)
    finally:
        stopping.set()
        decoders.close()


class Trainer:
    """Takes the one unfinished run, if there is one, and carries it to its end."""

    def __init__(self, parts: "Parts", tickets: Tickets, stopping: threading.Event) -> None:
        self._parts = parts
        self._tickets = tickets
        self._stopping = stopping
        self._post = Posts(1)
        self._lease_seconds = parts.settings.lease_seconds
        self._name = f"trainer-{socket.gethostname()}-{os.getpid()}"

    def ask_by_the_clock(self) -> None:
        """What beat sends: queue a run, unless one is unfinished or another beat was first."""
        if slots.take(self._parts.database, RETRAIN, digits=_MINUTE):
            with contextlib.suppress(RunUnfinished), self._parts.database.write() as session:
                retraining.ask(session, actor="schedule")
        self.look()

    def look_now_and_then(self) -> None:
        """Tickets may be lost, and a trainer that died has left its run."""
        while not self._stopping.is_set():
            self.look()
            self._stopping.wait(self._parts.settings.sweep_seconds)

    def look(self) -> None:
        """Carry out the run that waits, in this thread, unless another one is at it."""
        try:
            self._post.call(self._one)
        except DBAPIError as error:
            log.warning("the database is away: %s", type(error.orig).__name__)

    def _one(self) -> None:
        if self._stopping.is_set():
            return
        with self._parts.database.write() as session:
            run = retraining.claim(session, lease_seconds=self._lease_seconds, actor=self._name)
        if run is None:
            return
        log.info("%s begins, attempt %d", run.id, run.attempts)
        try:
            with self._holding(run) as lease:
                self._carry_out(run, lease)
        except (Stopped, LeaseLost) as stopped:
            log.warning("%s stops here: %s", run.id, stopped)

    def _carry_out(self, run: RetrainingRun, lease: "_Lease") -> None:
        from training.index import DataUnusable  # noqa: PLC0415
        from training.retraining import TooFewLabels, carry_out, look_on, promote_by_itself  # noqa: PLC0415
        from worker.decision import ModelUnusable  # noqa: PLC0415

        try:
            verdict = carry_out(self._parts, run, lease.note)
        except (TooFewLabels, DataUnusable, ModelUnusable) as error:
            self._end(run, RunState.FAILED, problem=str(error))
            log.error("%s failed: %s", run.id, error)  # noqa: TRY400 - it says all of it
            return
        except Stopped:
            if lease.cancelling:
                self._end(run, RunState.CANCELLED)
            elif self._stopping.is_set():
                with self._parts.database.write() as session:
                    retraining.let_go(session, run)
            raise
        except Exception as error:
            self._end(run, RunState.FAILED, problem=f"{type(error).__name__}; the trainer's log says more")
            raise
        self._end(run, RunState.SUCCEEDED, version=verdict.version, passed=verdict.passed)
        log.warning("%s made %s, which %s the gate", run.id, verdict.version, "passes" if verdict.passed else "fails")
        look_on(self._parts, verdict)
        if verdict.passed and self._parts.settings.retrain_promote:
            promote_by_itself(self._parts, verdict)
            self._tickets.ring_succession()

    def _end(self, run: RetrainingRun, state: RunState, **told: str | bool) -> None:
        with self._parts.database.write() as session:
            retraining.finish(session, run, state, actor=self._name, **told)  # type: ignore[arg-type]

    @contextmanager
    def _holding(self, run: RetrainingRun) -> Iterator["_Lease"]:
        lease = _Lease(self._parts.database, run, self._lease_seconds, self._stopping)
        lease.start()
        try:
            yield lease
        finally:
            lease.end()


class _Lease(threading.Thread):
    """Renews the lease every third of it, and hears whether the run is to stop."""

    def __init__(self, database: Database, run: RetrainingRun, seconds: int, stopping: threading.Event) -> None:
        super().__init__(name="lease", daemon=True)
        self._database = database
        self._run = run
        self._seconds = seconds
        self._stopping = stopping
        self._over = threading.Event()
        self.cancelling = False
        self._lost = False

    def run(self) -> None:
        while not self._over.wait(self._seconds / 3):
            with contextlib.suppress(DBAPIError):
                self._renew()

    def note(self, **progress: int) -> None:
        """Write down how far the run is; raises Stopped where it must not go on."""
        with contextlib.suppress(DBAPIError):
            self._renew(**progress)
        if self._lost:
            raise Stopped("another trainer holds it")
        if self.cancelling:
            raise Stopped("it was cancelled")
        if self._stopping.is_set():
            raise Stopped("this process is to end")

    def end(self) -> None:
        self._over.set()
        self.join()

    def _renew(self, **progress: int) -> None:
        try:
            with self._database.write() as session:
                self.cancelling = retraining.hold_on(session, self._run, lease_seconds=self._seconds, **progress)
        except LeaseLost:
            self._lost = True


def _line_is_busy(database: Database) -> Callable[[], bool]:
    def ask() -> bool:
        with contextlib.suppress(DBAPIError), database.read() as session:
            return queue.is_busy(session)
        return False

    return ask


def _consume(app: Celery) -> None:
    app.worker_main(
        [
            "worker",
            "--pool=threads",
            "--concurrency=1",
            f"--queues={RETRAINING_QUEUE}",
            "--loglevel=INFO",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )
