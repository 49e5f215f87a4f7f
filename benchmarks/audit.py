"""What the audit costs the line: the same images through one worker's line with its rows and without, in turns."""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import up
from benchmarks.images import repeated
from db import audit, batches, proof, tenancy
from db.batches import Item
from db.blobs import Blobs
from db.database import Database
from db.tables import Lane
from settings import Settings
from tests import postgres
from worker import device
from worker.formats import MAGIC_BYTES, media_type

_IMAGES = 1_000
_ROUNDS = 5


def figure() -> None:
    """Print images per second with the audit over without it, on either database; 0.95 or more is asked for."""
    device.prepare()
    with postgres.own() as server:
        for kind, url in (("SQLite", ""), ("PostgreSQL", server.database())):
            _figure(kind, url)


def _figure(kind: str, url: str) -> None:
    with tempfile.TemporaryDirectory() as home:
        settings = Settings.from_environment({"CXR_HOME": home, "REDIS_URL": "memory://", "DATABASE_URL": url})
        up.bring_up_to_date(settings)
        with closing(_Line(settings)) as line:
            line.seconds(200)  # warm
            ratios = [_round(line, number) for number in range(1, _ROUNDS + 1)]
            rows = line.rows()
    print(f"line with the audit / without, {kind}: {statistics.median(ratios):.3f} ({rows} rows, the chains hold)")


def _round(line: "_Line", number: int) -> float:
    """Each is first in turn, since these machines' speed drifts."""
    seconds: dict[bool, float] = {}
    for written in (True, False) if number % 2 else (False, True):
        with _audit(written=written):
            seconds[written] = line.seconds(_IMAGES)
    speeds = {written: _IMAGES / taken for written, taken in seconds.items()}
    ratio = speeds[True] / speeds[False]
    print(f"  round {number}: with {speeds[True]:.0f}, without {speeds[False]:.0f} images/s, ratio {ratio:.3f}")
    return ratio


@contextmanager
def _audit(*, written: bool) -> Iterator[None]:
    """Rows or none; this switch is nowhere else."""
    if written:
        yield
        return
    with mock.patch.object(audit, "append", return_value=None):
        yield


class _Line:
    """A worker's line in this process, over a database and images of its own."""

    def __init__(self, settings: Settings) -> None:
        from worker.decoders import Decoders  # noqa: PLC0415
        from worker.line import Line  # noqa: PLC0415 - loads TensorFlow, which the device must precede
        from worker.models import Models  # noqa: PLC0415

        self._database, blobs = Database(settings.database_url), Blobs(settings.blobs)
        models = Models(self._database, blobs, batch_size=settings.batch_size)
        self._decoders = Decoders.of(settings, os.cpu_count() or 1)
        self._line = Line(self._database, blobs, models, self._decoders, settings, worker="bench")
        self._items = [_kept(blobs, path) for path in dict.fromkeys(repeated(_IMAGES))]

    def seconds(self, number: int) -> float:
        """Submit so many images, and return how long the line takes for them."""
        items = [replace(self._items[place % len(self._items)], custom_id=str(place)) for place in range(number)]
        with self._database.of(tenancy.DEFAULT).write() as session:
            batches.add(session, items, lane=Lane.ROUTINE, actor="bench")
        start = time.perf_counter()
        done = self._line.work(lambda: False)
        taken = time.perf_counter() - start
        assert done == number
        return taken

    def rows(self) -> int:
        with self._database.read() as session:
            verdict = proof.verify(session)
        assert verdict.problem is None, verdict.problem
        return verdict.rows

    def close(self) -> None:
        self._decoders.close()
        self._database.close()


def _kept(blobs: Blobs, path: Path) -> Item:
    data = path.read_bytes()
    return Item("", blobs.put(data), len(data), media_type(data[:MAGIC_BYTES]) or "")
