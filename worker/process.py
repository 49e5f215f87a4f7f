"""The worker process: one per GPU, or one per machine."""

import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from celery import Celery
from celery.signals import worker_ready, worker_shutting_down
from sqlalchemy.exc import DBAPIError

from db import heartbeats, migrate, registry
from db.blobs import Blobs
from db.database import Database
from db.heads import Heads
from db.retention import Keep
from db.tables import Lane
from settings import Settings
from worker import device, explanation, schedule
from worker.couriers import Couriers
from worker.decoders import Decoders
from worker.posts import Posts
from worker.schedule import Clockwork
from worker.sweeper import Sweeper
from worker.tickets import EXPLAIN_QUEUE, SCHEDULE_QUEUE, SUCCESSION, WORK, Tickets, celery_app

if TYPE_CHECKING:
    from worker.line import Line
    from worker.succession import Succession

log = logging.getLogger(__name__)

# Two overlap decoding and prediction; a third keeps scheduled tasks from waiting for a long lane.
_THREADS = 4
_ON_THE_LINE = 3
# A thread that hands a child its next images must not wait 5 ms for one that talks to SQL.
_SWITCH_SECONDS = 0.0005


def run(settings: Settings) -> None:
    """Work until SIGTERM; then finish the running micro-batch and stop."""
    stopping = threading.Event()
    _heed_early_signals(stopping)
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    sys.setswitchinterval(_SWITCH_SECONDS)
    database, blobs = Database(settings.database_url), Blobs(settings.blobs)
    app = celery_app(settings)
    keep = Keep(images=settings.keep_images_days, results=settings.keep_results_days, audit=settings.keep_audit_days)
    schedule.register(app, Clockwork(database, blobs, Heads(settings.audit_heads), keep))
    with _decoders(settings) as decoders:
        explanation.register(app, database, blobs, decoders)
        device_name = device.prepare()
        from worker.confirmation import Confirmations  # noqa: PLC0415 - loads TensorFlow, which the device must precede
        from worker.line import Line  # noqa: PLC0415
        from worker.models import Models  # noqa: PLC0415
        from worker.succession import Succession  # noqa: PLC0415
        from worker.verification import Bench  # noqa: PLC0415

        models = Models(database, blobs, batch_size=settings.batch_size)
        line = Line(database, blobs, models, decoders, settings, worker=name)
        confirmations = Confirmations(Bench(database, blobs, decoders, models, line.judge), worker=name)
        confirmations.register(app)
        _register_work(app, line.work, stopping)
        succession = Succession(database, models, worker=name)
        app.task(name=SUCCESSION)(succession.look_again)
        gc.collect()
        gc.freeze()  # what TensorFlow and Keras keep for good: every full collection would look through it
        champion = database.patiently(lambda: _prepare(database, line))
        tickets = Tickets(app, batch_size=settings.batch_size)
        sweeper = Sweeper(
            database,
            tickets,
            worker=name,
            device=device_name,
            seconds=settings.sweep_seconds,
            problem=lambda: line.problem,
            hangs=line.judge.hangs,
            pace=line.pace,
            also=lambda: _also(succession, line, database),
        )
        couriers = Couriers(database, settings.networks)
        sweeper.start()
        couriers.start()
        confirmations.start()
        log.info("worker %s is ready: %s", name, line.problem or champion)
        try:
            _consume(app)
            if not stopping.is_set():
                sys.exit("Celery ended by itself, its log says why")  # with 1, so that whoever started us does it again
        finally:
            sweeper.stop()
            couriers.stop()
            sweeper.join()
            with contextlib.suppress(DBAPIError), database.write() as session:
                heartbeats.leave(session, name)  # without it, the row only grows old


def _also(succession: "Succession", line: "Line", database: Database) -> None:
    """What else a sweep does."""
    succession.look_again()
    line.inputs.write(database)


def _heed_early_signals(stopping: threading.Event) -> None:
    """SIGTERM before Celery takes it over: end, or, where Python swallows that in a callback, when Celery is ready.

    Celery swallows it too, in the moment before it listens itself: then it returns as if it had ended by itself.
    """

    def stop(*_: object) -> None:
        stopping.set()
        sys.exit(0)

    def stop_late(**_: object) -> None:
        if stopping.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    worker_ready.connect(stop_late, weak=False)


def _prepare(database: Database, line: "Line") -> str:
    """Let the line load the champion, and return its version; raises SchemaOld or NoChampion."""
    migrate.require_current(database)
    with database.read() as session:
        champion = registry.champion(session).version
    line.warm_up(champion)
    return champion


@contextmanager
def _decoders(settings: Settings) -> Iterator[Decoders]:
    decoders = Decoders.of(settings, settings.decoders)
    try:
        decoders.warm_up()
        yield decoders
    finally:
        decoders.close()


def _register_work(app: Celery, work: Callable[[Callable[[], bool]], int], stopping: threading.Event) -> None:
    posts = Posts(_ON_THE_LINE)
    worker_shutting_down.connect(lambda **_: stopping.set(), weak=False)

    def take_ticket() -> None:
        """Work until the lanes are empty."""
        try:
            posts.call(lambda: work(stopping.is_set))
        except DBAPIError as error:
            log.warning("the database is away, the sweeper will ring: %s", type(error.orig).__name__)
        except MemoryError:
            log.exception("out of memory")  # must not reach Celery 5.7: it would end the worker, again and again

    app.task(name=WORK)(take_ticket)


def _consume(app: Celery) -> None:
    queues = ",".join([*Lane, SCHEDULE_QUEUE, EXPLAIN_QUEUE])
    app.worker_main(
        [
            "worker",
            "--pool=threads",
            f"--concurrency={_THREADS}",
            f"--queues={queues}",
            "--loglevel=INFO",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )
