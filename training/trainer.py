"""The trainer: a process of its own, of the lowest priority, that carries out one run at a time: recalls, then retraining."""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from celery import Celery
from celery.signals import worker_shutting_down
from sqlalchemy.exc import DBAPIError, OperationalError

from db import duties, queue, runs, slots
from db.blobs import Blobs
from db.database import Database
from db.reclassification import ReclassificationRun
from db.retraining import RetrainingRun
from db.runs import LeaseLost, Run, RunState, RunUnfinished
from settings import Settings
from training import lease
from training.lease import Lease, Stopped
from training.parts import Parts
from worker import device, priority
from worker.decoders import Decoders
from worker.posts import Posts
from worker.tickets import RETRAIN, RETRAINING_QUEUE, TRAIN, Tickets, celery_app

log = logging.getLogger(__name__)

_MINUTE = 16  # characters of an ISO time


def run(settings: Settings) -> None:
    """Carry out what is asked for until SIGTERM; a run that is not finished then goes on at the next start."""
    priority.yield_to_everybody()
    app = celery_app(settings)
    database = Database(settings.database_url)
    stopping = threading.Event()
    worker_shutting_down.connect(lambda **_: stopping.set(), weak=False)
    decoders = Decoders.of(settings, 1)
    stand_back = priority.StandBack(_line_is_busy(database), settings.trainer_share / 100, stopping.wait)
    parts = Parts(settings, database, Blobs(settings.blobs), decoders, stand_back)
    trainer = Trainer(parts, Tickets(app, batch_size=1), stopping, prepare=cache(device.prepare))
    app.task(name=RETRAIN)(trainer.ask_by_the_clock)
    app.task(name=TRAIN)(trainer.look)
    threading.Thread(target=trainer.look_now_and_then, daemon=True).start()
    try:
        _consume(app)
    finally:
        stopping.set()
        decoders.close()


class Trainer:
    """Takes the unfinished runs, one after the other, and carries each to its end."""

    def __init__(
        self,
        parts: Parts,
        tickets: Tickets,
        stopping: threading.Event,
        *,
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        """`prepare` is called before each run: TensorFlow takes 400 MB, which a trainer that waits does without."""
        self._parts = parts
        self._prepare = prepare
        self._tickets = tickets
        self._stopping = stopping
        self._post = Posts(1)
        self._lease_seconds = parts.settings.lease_seconds
        self._name = f"trainer-{socket.gethostname()}-{os.getpid()}"

    def ask_by_the_clock(self) -> None:
        """What beat sends: queue a run, unless one is unfinished or another beat was first."""
        if slots.take(self._parts.database, RETRAIN, digits=_MINUTE):
            with contextlib.suppress(RunUnfinished), self._parts.database.write() as session:
                runs.ask(session, RetrainingRun, actor="schedule")
        self.look()

    def look_now_and_then(self) -> None:
        """Tickets may be lost, and a trainer that died has left its run."""
        while not self._stopping.is_set():
            self.look()
            self._stopping.wait(self._parts.settings.sweep_seconds)

    def look(self) -> None:
        """Carry out the runs that wait, in this thread, unless another one is at it."""
        try:
            self._post.call(self._all)
        except DBAPIError as error:
            log.warning("the database is away: %s", type(error.orig).__name__)
        except Exception:  # a run that went wrong must not end the thread that takes the next one
            log.exception("the trainer stopped in the middle, and looks again at the next sweep")

    def _all(self) -> None:
        """Until none waits."""
        while not self._stopping.is_set() and (run := self._claimed()):
            log.info("%s begins, attempt %d", run.id, run.attempts)
            try:
                with lease.holding(self._parts.database, run, self._lease_seconds, self._stopping) as held:
                    self._get_ready(run)
                    self._carry_out(run, held)
            except (Stopped, LeaseLost) as stopped:
                log.warning("%s stops here: %s", run.id, stopped)

    def _claimed(self) -> Run | None:
        with self._parts.database.write() as session:
            return duties.claim(session, lease_seconds=self._lease_seconds, actor=self._name)

    def _get_ready(self, run: Run) -> None:
        """End the run where TensorFlow cannot be loaded, which the next attempt would find again."""
        try:
            self._prepare()
        except Exception as error:
            problem = f"TensorFlow cannot be loaded, {type(error).__name__}; the trainer's log says more"
            self._end(run, RunState.FAILED, problem=problem)
            raise

    def _carry_out(self, run: Run, held: Lease) -> None:
        if isinstance(run, ReclassificationRun):
            with self._ended_where_it_fails(run, held):
                told = self._reclassified(run, held)
            self._end(run, RunState.SUCCEEDED, **told)
            log.info("%s has seen %d results anew", run.id, told["done"])
        elif isinstance(run, RetrainingRun):
            self._retrain(run, held)

    def _reclassified(self, run: ReclassificationRun, held: Lease) -> dict[str, Any]:
        from worker.judge import Judge  # noqa: PLC0415
        from worker.models import Models  # noqa: PLC0415
        from worker.reclassification import Reclassification  # noqa: PLC0415

        own, together = self._parts, self._parts.settings.batch_size
        models = Models(own.database, own.blobs, batch_size=together)
        judge = Judge(models, batch_size=together, longest_seconds=self._lease_seconds)

        def rest() -> None:
            held.check()
            own.stand_back()

        work = Reclassification(own.database, own.blobs, own.decoders, models, judge, together)
        return work.go_on(run, held.note_with, rest, worker=self._name)

    def _retrain(self, run: RetrainingRun, held: Lease) -> None:
        from training import retraining  # noqa: PLC0415

        with self._ended_where_it_fails(run, held):
            verdict = retraining.carry_out(self._parts, run, held)
        with self._parts.database.write() as session:  # both, or neither where this process is killed
            told = {"version": verdict.version, "passed": verdict.passed}
            cancelled = runs.finish(session, run, RunState.SUCCEEDED, actor=self._name, **told)
            may = bool(self._parts.settings.retrain_promote) and not cancelled
            promotes = may and retraining.promote_by_itself(session, verdict)
        log.warning("%s made %s, which %s the gate", run.id, verdict.version, "passes" if verdict.passed else "fails")
        if promotes:
            self._tickets.ring_succession()
        retraining.forget(self._parts, run)
        retraining.look_on(self._parts, verdict)

    @contextmanager
    def _ended_where_it_fails(self, run: Run, held: Lease) -> Iterator[None]:
        """Write down how the run ends where the block does not come to its own end, and raise in any case."""
        from training.index import DataUnusable  # noqa: PLC0415
        from training.retraining import TooFewLabels  # noqa: PLC0415
        from worker.decision import ModelUnusable  # noqa: PLC0415

        try:
            yield
        except (TooFewLabels, DataUnusable, ModelUnusable) as error:
            self._end(run, RunState.FAILED, problem=str(error))
            raise Stopped(f"it failed, {error}") from error
        except Stopped:
            if held.cancelling:
                self._end(run, RunState.CANCELLED)
            elif self._stopping.is_set():
                with self._parts.database.write() as session:
                    runs.let_go(session, run)
            raise
        except (LeaseLost, OperationalError):
            raise  # another trainer has it; or the database is away, and it goes on when the lease has ended
        except Exception as error:
            self._end(run, RunState.FAILED, problem=f"{type(error).__name__}; the trainer's log says more")
            raise

    def _end(self, run: Run, state: RunState, **told: Any) -> None:
        with self._parts.database.write() as session:
            runs.finish(session, run, state, actor=self._name, **told)


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
