"""A real instance in a home of its own, and the shipped model."""

import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from sqlalchemy import select

import operator_key
import up
from cxr_client import Client, answers
from db import batches, queue, tenancy
from db.batches import Item
from db.blobs import Blobs
from db.database import Database
from db.tables import Batch, BatchState, Lane
from settings import Settings
from training import shipped
from worker.decision import Decision
from worker.formats import MAGIC_BYTES, media_type
from worker.tickets import Tickets, celery_app

if TYPE_CHECKING:
    from worker.predictor import Predictor


def predictor(batch_size: int) -> "Predictor":
    from worker.predictor import Predictor  # noqa: PLC0415 - loads TensorFlow, which the device must precede

    card, weights = shipped.load()
    decision = Decision.of(card)
    return Predictor(weights, decision, preprocessing=card.preprocessing, batch_size=batch_size)


@contextmanager
def running(**more: str) -> Iterator["Bench"]:
    """Start everything that `cxr up` starts, in an empty home, with `more` settings."""
    with tempfile.TemporaryDirectory() as home, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        settings = Settings.from_environment({"CXR_HOME": home, "CXR_PORT": str(port), **more})
        up.bring_up_to_date(settings)
        operator_key.make_first(settings)
        with up.Instance(settings, say=print) as instance:
            yield Bench(settings, instance)


class Bench:
    """One instance and the ways of giving it work."""

    def __init__(self, settings: Settings, instance: up.Instance) -> None:
        self.settings = settings
        self._instance = instance
        self.database = Database(settings.database_url)
        self._blobs = Blobs(settings.blobs)
        self._tickets = Tickets(celery_app(settings), batch_size=settings.batch_size)

    def keep(self, paths: Sequence[Path]) -> list[Item]:
        """Put the files into the blobs, and return an item for each, none for the other's sake."""
        kept: dict[Path, Item] = {}
        for path in dict.fromkeys(paths):
            data = path.read_bytes()
            kept[path] = Item("", self._blobs.put(data), len(data), media_type(data[:MAGIC_BYTES]) or "")
        return [replace(kept[path], custom_id=f"{number}-{path.name}") for number, path in enumerate(paths)]

    def submit(self, items: Sequence[Item], lane: Lane = Lane.ROUTINE) -> str:
        """Submit images by reference, as the API does once the bytes are kept."""
        with self.database.of(tenancy.DEFAULT).write() as session:
            batch_id = batches.add(session, items, lane=lane, actor="bench").id
        self._tickets.ring(lane, len(items))
        return batch_id

    def wait(self, batch_id: str, *, pause: float = 0.5) -> float:
        """Return the seconds from submission to completion, by the database's clock."""
        while True:
            with self.database.read() as session:
                progress = batches.progress(session, batch_id)
            if progress and progress.state == BatchState.COMPLETED and progress.finished_at:
                return (progress.finished_at - progress.submitted_at).total_seconds()
            time.sleep(pause)

    def send(self, paths: Sequence[Path], lane: Lane = Lane.ROUTINE) -> float:
        """Send the files over HTTP as one batch, and return the seconds until its last row is finished."""
        start = time.time()
        return self.finished(self._upload(paths, lane), pause=0.005) - start

    def send_in_parts(self, paths: Sequence[Path], *, senders: int, parts: int) -> float:
        """Send the files as several batches side by side, and return the seconds until the last row."""
        size = -(-len(paths) // parts)
        start = time.time()
        with ThreadPoolExecutor(senders) as pool:
            sent = list(pool.map(self._upload, [paths[first : first + size] for first in range(0, len(paths), size)]))
        return max(self.finished(batch_id) for batch_id in sent) - start

    def _upload(self, paths: Sequence[Path], lane: Lane = Lane.ROUTINE) -> str:
        files = [(f"{number}-{path.name}", path) for number, path in enumerate(paths)]
        with Client(self._instance.url, operator_key.known(self.settings)) as client:
            return str(client.submit(files, urgent=lane == Lane.URGENT).id)

    def finished(self, batch_id: str, *, pause: float = 0.5) -> float:
        """When the batch was finished, by the database's clock, once it is."""
        self.wait(batch_id, pause=pause)
        with self.database.read() as session:
            finished = session.scalars(select(Batch.finished_at).where(Batch.id == batch_id)).one()
        if finished is None:
            raise AssertionError(batch_id)
        return finished.timestamp()

    def ask(self, batch_id: str) -> answers.Batch:
        """What the API says of the batch."""
        with Client(self._instance.url, key=operator_key.known(self.settings)) as client:
            return client.batch(batch_id)

    def queued(self) -> int:
        with self.database.read() as session:
            return sum(queue.waiting(session).values())

    def api_bytes(self) -> int:
        return _proportional(self._instance.pids("api"))

    def worker_bytes(self) -> int:
        return _proportional(self._instance.pids("worker"))


def _proportional(pids: Sequence[int]) -> int:
    """Memory of the processes and their children; what they share is counted once."""
    families = [[psutil.Process(pid), *psutil.Process(pid).children(recursive=True)] for pid in pids]
    return sum(process.memory_full_info().pss for family in families for process in family)
