"""Kill after every step: the way from upload to result, stopped once after each commit and each external call."""

import functools
import gc
import itertools
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from apiflask import APIFlask
from celery import Celery
from sqlalchemy import func, select, update
from sqlalchemy.engine.default import DefaultDialect

import operator_key
from api.app import create_app
from db import leases, migrate, registry
from db.blobs import Blobs
from db.clock import now
from db.database import Database
from db.tables import OPEN, Batch, Image, ImageState
from settings import Settings
from tests.chaos import checker, gate, predictor
from tests.chaos.load import History, even, picture
from tests.service import CARD, until
from tests.uploading import BOUNDARY, multipart
from worker import decoder, sweeper
from worker.tickets import Tickets, celery_app

_MODEL = replace(CARD, version="stand-in")
_MOST_ROUNDS = 20


class Steps:
    """Counts commits and external calls, and ends the process after the one that it is told."""

    def __init__(self, last: int) -> None:
        self.last = last
        self._count = itertools.count(1)

    def after(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **more: Any) -> Any:
            answer = call(*given, **more)
            if next(self._count) == self.last:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return counted

    def watch(self) -> None:
        DefaultDialect.do_commit = self.after(DefaultDialect.do_commit)  # type: ignore[method-assign]
        os.fsync, os.replace, os.open = self.after(os.fsync), self.after(os.replace), self.after(os.open)
        decoder.answer = self.after(decoder.answer)
        Celery.send_task = self.after(Celery.send_task)
        predictor.Predictor.predict = self.after(predictor.Predictor.predict)  # type: ignore[method-assign]


class Inline:
    """Decodes in this process: what children do is a test of its own."""

    def decode(self, paths: list[Path], **_: object) -> list[decoder.Answer]:
        return [decoder.answer(path) for path in paths]


def main(home: Path, database_url: str, broker_url: str) -> None:
    """Go the way again and again, each time one step further, and print what the checker says at the end."""
    settings = Settings.from_environment(
        {"CXR_HOME": str(home), "DATABASE_URL": database_url, "REDIS_URL": broker_url, "CXR_MIN_FREE_BYTES": "0"}
    )
    _must(_in_a_child(lambda: _prepare(settings)), "preparing")
    _go_ahead(settings)
    for step in itertools.count(1):
        ended = _in_a_child(lambda step=step: _way(settings, Steps(step)))  # type: ignore[misc]
        _must(_in_a_child(lambda: _recover(settings)), f"the recovery from step {step}")
        if ended == 0:
            break
        _must(os.WTERMSIG(ended) != signal.SIGKILL, f"step {step}")
    _must(_in_a_child(lambda: print(json.dumps({"steps": step} | _checked(settings)), flush=True)), "the check")


def _go_ahead(settings: Settings) -> None:
    """Go the way once to its end in this process: those that are forked from it have all imported and compiled."""
    _way(settings, Steps(0))
    _database(settings).close()
    parts = _app(settings).extensions
    parts["cxr"] = replace(parts["cxr"], blobs=Blobs(settings.blobs))  # a thread of the old one would not be forked
    gc.collect()
    until(lambda: threading.active_count() == 1, "this process has no other thread")


def _must(code: int, what: str) -> None:
    if code:
        sys.exit(f"{what} failed with {code}")


def _in_a_child(work: Callable[[], object]) -> int:
    """Fork, which costs milliseconds: nothing here has threads before it."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        work()
    except BaseException:  # noqa: BLE001 - the outer edge of this process
        traceback.print_exc()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


def _prepare(settings: Settings) -> None:
    with closing(Database(settings.database_url)) as database:
        migrate.upgrade(database)
        with database.write() as session:
            registry.register(session, Blobs(settings.blobs), _MODEL, predictor.WEIGHTS, actor="chaos")
            registry.appoint(session, registry.CHAMPION, _MODEL.version, actor="chaos")
    operator_key.make_first(settings)


def _files(step: int) -> dict[str, bytes]:
    return {"a.png": picture(2 * step), "b.png": picture(2 * step + 1), "none.png": even(7, step)[:40]}


@contextmanager
def _history(settings: Settings) -> Iterator[History]:
    with closing(History(settings.home / "history")) as history:
        yield history


def _way(settings: Settings, steps: Steps) -> None:
    files, key = _files(steps.last), f"step-{steps.last}"
    with _history(settings) as history:
        history.asked(key, {name: sha256(data).hexdigest() for name, data in files.items()})
    if steps.last:
        steps.watch()
    _submit(settings, key, files)
    _work(settings)


@functools.cache
def _app(settings: Settings) -> APIFlask:
    return create_app(settings)


def _database(settings: Settings) -> Database:
    database: Database = _app(settings).extensions["cxr"].system
    return database


def _submit(settings: Settings, key: str, files: dict[str, bytes]) -> None:
    answer = (
        _app(settings)
        .test_client()
        .post(
            "/v1/batches",
            data=multipart(list(files.items())),
            content_type=f"multipart/form-data; boundary={BOUNDARY}",
            headers={"Idempotency-Key": key, "Authorization": f"Bearer {operator_key.known(settings)}"},
        )
    )
    if answer.status_code != 202 or not answer.json:
        raise AssertionError(answer.text)
    with _history(settings) as history:
        history.answered(key, answer.json["id"])


def _work(settings: Settings) -> None:
    sys.modules["worker.predictor"] = predictor
    sys.modules["worker.gate"] = gate
    from worker.line import Line  # noqa: PLC0415 - after the stand-in
    from worker.models import Models  # noqa: PLC0415

    with closing(_database(settings)) as database:
        blobs = Blobs(settings.blobs)
        models = Models(database, blobs, batch_size=8)
        line = Line(database, blobs, models, Inline(), settings, worker=f"w-{os.getpid()}")  # type: ignore[arg-type]
        line.work(lambda: False)
        tickets = Tickets(celery_app(settings), batch_size=settings.batch_size)
        sweeper.sweep(database, tickets, worker="w")


def _recover(settings: Settings) -> None:
    """Send what was not answered again, let every lease end, and work until all batches are closed."""
    with _history(settings) as history:
        unanswered = [key for key, sent in history.sent().items() if sent.batch_id is None]
    for key in unanswered:
        _submit(settings, key, _files(int(key.removeprefix("step-"))))
    with closing(_database(settings)) as database:
        for _ in range(_MOST_ROUNDS):
            with database.write() as session:
                session.execute(update(Image).where(Image.state == ImageState.LEASED).values(lease_until=now(-1)))
                leases.sweep(session, worker="sweeper")
                if not session.scalar(select(func.count()).select_from(Batch).where(Batch.state.in_(OPEN))):
                    return
            _work(settings)
    raise AssertionError("some batch is still open")


def _checked(settings: Settings) -> dict[str, Any]:
    with _history(settings) as history, closing(Database(settings.database_url)) as database:
        sent = history.sent()
        cut_off = {name_hash for it in sent.values() for name, name_hash in it.images.items() if name == "none.png"}
        verdict = checker.check(database, Blobs(settings.blobs), sent, poisoned=frozenset(), broken=frozenset(cut_off))
    return {
        "images": verdict.images,
        "lost": verdict.lost,
        "duplicated": verdict.duplicated,
        "problems": verdict.problems,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
