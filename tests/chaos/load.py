"""Clients that keep sending batches, and a history on the disk of what they sent and were answered."""

import contextlib
import io
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

import httpx
import numpy as np
from PIL import Image

_SENDERS = 2
_BACKLOG = 150
_PAUSE_SECONDS = 0.5  # so that the processors are free to show how soon a fault is mended
_BOUNDARY = "chaos"
_PATIENCE_SECONDS = 12


@dataclass(frozen=True)
class Sent:
    """One submission: what it held, and the batch that it was answered with, if it was."""

    images: dict[str, str]
    batch_id: str | None


class History:
    """One JSON line before each request and one after its answer, each fsynced; the truth of the client's side."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()

    def asked(self, key: str, images: Mapping[str, str]) -> None:
        self._write({"key": key, "images": images})

    def answered(self, key: str, batch_id: str) -> None:
        self._write({"key": key, "batch": batch_id})

    def _write(self, line: object) -> None:
        with self._lock:
            self._file.write(json.dumps(line).encode() + b"\n")
            os.fsync(self._file.fileno())

    def sent(self) -> dict[str, Sent]:
        """What was sent under each key."""
        found: dict[str, Sent] = {}
        for line in self._path.read_text().splitlines():
            told = json.loads(line)
            before = found.get(told["key"], Sent({}, None))
            found[told["key"]] = Sent(told.get("images", before.images), told.get("batch", before.batch_id))
        return found

    def close(self) -> None:
        self._file.close()


class Load:
    """Sends small batches one after the other, each again and again under its key until it is answered with 202."""

    def __init__(
        self, url: str, history: History, *, seed: int, waiting: Callable[[], int], headers: Mapping[str, str]
    ) -> None:
        self._url, self._history, self._waiting, self._headers = url, history, waiting, headers
        self._dice = random.Random(seed)
        self._made = 0
        self._stopping = threading.Event()
        self._going = threading.Event()
        self._going.set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send_on, daemon=True) for _ in range(_SENDERS)]
        self.answers: Counter[int | str] = Counter()
        self.gave_up: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send no new batch; those that were begun are sent until they are answered."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """Send nothing new for a while, so that nothing but the fault's own batch rings."""
        self._going.clear()
        try:
            yield
        finally:
            self._going.set()

    def batch(self, count: int) -> dict[str, bytes]:
        """New pictures, each of them unlike every other."""
        with self._lock:
            first, self._made = self._made, self._made + count
            seed = self._dice.getrandbits(32)
        return {f"{first + number}.png": picture(seed + number) for number in range(count)}

    def submit(self, files: Mapping[str, bytes], *, slowly: float = 0, query: str = "") -> str:
        """Send until it is answered with 202, and return the batch's id; `slowly` is a pause after each image."""
        key = self._key()
        self._history.asked(key, {name: sha256(data).hexdigest() for name, data in files.items()})
        give_up = time.monotonic() + 120
        while time.monotonic() < give_up:
            batch_id = self._try(key, files, slowly, query)
            if batch_id:
                self._history.answered(key, batch_id)
                return batch_id
            slowly = 0
            time.sleep(0.2)
        raise AssertionError(f"{key} was not answered with 202 within 120 s: {self.answers}")

    def _key(self) -> str:
        with self._lock:
            return f"{self._dice.getrandbits(64):016x}"

    def _try(self, key: str, files: Mapping[str, bytes], slowly: float, query: str) -> str | None:
        headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}", "Idempotency-Key": key}
        try:
            answer = httpx.post(
                f"{self._url}/v1/batches{query}",
                content=_body(files, slowly),
                headers={**headers, **self._headers},
                timeout=_PATIENCE_SECONDS,
                trust_env=False,
            )
        except httpx.TransportError as error:
            self.answers[type(error).__name__] += 1
            return None
        self.answers[answer.status_code] += 1
        return str(answer.json()["id"]) if answer.status_code == 202 else None

    def _send_on(self) -> None:
        while not self._stopping.is_set():
            if not self._going.wait(0.1):
                continue
            try:
                crowded = self._waiting() > _BACKLOG
            except Exception:  # noqa: BLE001 - the database may be what is broken
                crowded = False
            if crowded:
                self._stopping.wait(0.1)
                continue
            try:
                self.submit(self.batch(self._dice.randint(4, 16)))
                self._stopping.wait(_PAUSE_SECONDS)
            except Exception as error:  # noqa: BLE001 - a sender that ends in silence would leave less to break
                self.gave_up.append(f"{type(error).__name__}: {error}")


def picture(seed: int) -> bytes:
    """A small PNG of noise."""
    return encoded(np.random.default_rng(seed).integers(0, 256, (16, 16), np.uint8))


def even(level: int, mark: int) -> bytes:
    """A PNG of one grey level; `mark` makes its bytes unlike those of another."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((16 + mark % 64, 16 + mark // 64), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def encoded(levels: "np.typing.NDArray[np.uint8]") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(levels).resize((48, 48), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def _body(files: Mapping[str, bytes], slowly: float) -> Iterator[bytes]:
    for name, data in files.items():
        header = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n\r\n'
        yield header.encode() + data + b"\r\n"
        if slowly:
            time.sleep(slowly)
    yield f"--{_BOUNDARY}--\r\n".encode()
