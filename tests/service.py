"""A running instance, as a test uses it."""

import io
import socket
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

import operator_key
import up
from db import batches, proof, registry
from db.batches import Line, Progress
from db.database import Database
from db.tables import BatchState
from settings import Settings

PATIENCE_SECONDS = 120
CARD = registry.Card("test-1", "grey128-1", 0.5, 1.0, 0.0, "none", {}, {})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def until(condition: Callable[[], Any], what: str, *, seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait for a condition, never by sleep alone, and return what it gave; who waits long asks seldom.

    So a time that is taken with it may be too long, by 50 ms and a twentieth.
    """
    begun = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - begun
        if waited > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(min(0.05 + waited / 20, 0.5))
    return value


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


class Service:
    """Submits over HTTP and then looks in the database."""

    def __init__(self, settings: Settings, instance: up.Instance) -> None:
        self.settings = settings
        self.instance = instance
        self.key = operator_key.known(settings)
        self.http = httpx.Client(base_url=instance.url, timeout=60, headers={"Authorization": f"Bearer {self.key}"})
        self.database = Database(settings.database_url)

    @classmethod
    @contextmanager
    def started(cls, settings: Settings) -> Iterator["Service"]:
        operator_key.make_first(settings)
        with up.Instance(settings, say=print) as instance:
            service = cls(settings, instance)
            yield service
            service.http.close()
            service.database.close()

    def submit(self, files: Mapping[str, bytes], *, lane: str = "routine") -> str:
        parts = [("images", (name, data)) for name, data in files.items()]
        answer = self.http.post("/v1/batches", files=parts, params={"lane": lane})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def progress(self, batch_id: str) -> Progress:
        with self.database.read() as session:
            progress = batches.progress(session, batch_id)
        assert progress
        return progress

    def wait(self, batch_id: str, *, seconds: float = PATIENCE_SECONDS) -> list[Line]:
        """Return the batch's images once it is completed; its counts must add up all the while."""

        def completed() -> bool:
            progress = self.progress(batch_id)
            assert sum(progress.counts.values()) == progress.total
            return progress.state == BatchState.COMPLETED

        until(completed, f"{batch_id} completed", seconds=seconds)
        with self.database.read() as session:
            return list(batches.lines(session, batch_id))

    def audit(self) -> proof.Verdict:
        with self.database.read() as session:
            return proof.verify(session)
