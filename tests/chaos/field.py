"""A whole system in a directory of its own: Valkey, API, workers and beat, started again when they die."""

import contextlib
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import httpx
import redis
from sqlalchemy import func, select

import operator_key
import up
from db import migrate, registry
from db.blobs import Blobs
from db.clock import now
from db.database import Database
from db.tables import OPEN, Batch, Image, ImageState
from settings import Settings
from tests.chaos import predictor, processes, switches
from tests.chaos.processes import Process
from tests.chaos.proxy import Proxy
from tests.postgres import Server
from tests.service import CARD, free_port, until
from worker import broker

_WATCH_SECONDS = 0.1
_STOP_SECONDS = 60
_LAST_LINES = 3
# It reads its file into one buffer for all threads: now and then one of them finds another's half.
_LIBFAKETIMES_OWN = "libfaketime: In parse_ft_string(), failed to parse"
LEASE_SECONDS = 3
REAL_LEASE_SECONDS = 6
SWEEP_SECONDS = 1
VERSIONS = ("stand-in-a", "stand-in-b")


@dataclass
class Part:
    """One process; `down` keeps the watcher from starting it again."""

    name: str
    start: Callable[[], Process]
    process: Process | None = None
    down: bool = False


@dataclass(frozen=True)
class Make:
    """How a field is made."""

    workers: int = 3
    beats: int = 1
    real_model: bool = False
    proxies: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    off: str = ""


class Field:
    """The system under test; faults break it, the load goes on, the checker looks at what is left."""

    def __init__(self, home: Path, logs: Path, make: Make, server: Server | None) -> None:
        self.home, self.logs, self.server, self._make = home, logs, server, make
        self._parts: dict[str, Part] = {}
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self.proxies: dict[str, Proxy] = {}
        self.deaths: list[str] = []  # of processes that the watcher found dead, with their last words
        self._database_url = server.database() if server else f"sqlite:///{home / 'cxr.db'}"
        self.broker_port = free_port()
        self.settings = self._settings()
        self.database = Database(self._database_url)
        self.blobs = Blobs(self.settings.blobs)
        self.headers: dict[str, str] = {}
        self.url = f"http://127.0.0.1:{self.settings.port}"

    @property
    def journal(self) -> Path:
        return self.logs / "journal"

    def _settings(self) -> Settings:
        database_url, broker_port = self._database_url, self.broker_port
        if self._make.proxies:
            self.proxies["broker"] = Proxy(broker_port)
            broker_port = self.proxies["broker"].port
            if self.server:
                self.proxies["database"] = Proxy(self.server.port)
                database_url = database_url.replace(f":{self.server.port}/", f":{self.proxies['database'].port}/")
        given = {
            "CXR_HOME": str(self.home),
            "CXR_PORT": str(free_port()),
            "CXR_LEASE_SECONDS": str(LEASE_SECONDS),
            "CXR_DECODE_SECONDS": "1",
            "CXR_SWEEP_SECONDS": str(SWEEP_SECONDS),
            "CXR_BATCH_SIZE": "8",
            "CXR_DECODERS": "1",
            "CXR_MIN_FREE_BYTES": "0",
            "DATABASE_URL": database_url,
            "REDIS_URL": f"redis://127.0.0.1:{broker_port}/0",
        }
        if self._make.real_model:
            given |= {"CXR_LEASE_SECONDS": str(REAL_LEASE_SECONDS), "CXR_DECODE_SECONDS": "2"}
        return Settings.from_environment(given)

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        self._register()
        operator_key.make_first(replace(self.settings, database_url=self._database_url))
        self.headers = {"Authorization": f"Bearer {operator_key.known(self.settings)}"}
        self._run("valkey", lambda: processes.start(self._valkey(), {}, self.logs / "valkey.log"))
        until(self.broker_answers, "the broker answers")
        self._add("api")
        for number in range(self._make.beats):
            (self.home / f"beat-{number}").mkdir()
            self._add(f"beat-{number}", CXR_HOME=str(self.home / f"beat-{number}"))
        for number in range(self._make.workers):
            self._add(f"worker-{number}")
        self._watcher.start()
        until(self.ready, "the API is ready")

    def _register(self) -> None:
        if self._make.real_model:
            up.bring_up_to_date(replace(self.settings, database_url=self._database_url))
            return
        migrate.upgrade(self.database)
        with self.database.write() as session:
            for version in VERSIONS:
                card = replace(CARD, version=version)
                registry.register(session, self.blobs, card, predictor.WEIGHTS + version.encode(), actor="chaos")
            registry.appoint(session, registry.CHAMPION, VERSIONS[0], actor="chaos")
        if self._make.off == "fence":
            switches.without_unique_results(self.database)

    def _valkey(self) -> list[str]:
        socket = replace(self.settings, redis_url=f"redis+socket://{self.home / 'valkey.sock'}")
        command = broker.command(socket)
        command[command.index("--port") + 1] = str(self.broker_port)
        return [*command, "--bind", "127.0.0.1"]

    def _add(self, name: str, **more: str) -> None:
        """Start a process of ours: the real program where the field is to be real, else the stand-in."""
        what, make = name.split("-", maxsplit=1)[0], self._make
        asked = {key: value.format(home=self.home) for key, value in make.environment.items()}
        environment = self.settings.environment() | asked | more
        environment |= {"CHAOS_JOURNAL": str(self.journal), switches.SWITCH: make.off}
        log = self.logs / f"{name}.log"
        real = {"worker": make.real_model, "beat": make.beats == 1, "api": False}[what]
        if real or "LD_PRELOAD" in asked:
            program = ["-P", "-m", "cxr"] if real else ["-m", "tests.chaos.standin"]
            environment["CXR_SUPERVISOR_PID"] = str(os.getpid())
            self._run(name, lambda: processes.start([sys.executable, *program, what], environment, log))
        else:
            starts = itertools.count()
            self._run(name, lambda: processes.Fork(what, environment | {"CHAOS_START": f"{name} {next(starts)}"}, log))

    def _run(self, name: str, start: Callable[[], Process]) -> None:
        self._parts[name] = Part(name, start)
        self.spawn(name)

    def spawn(self, name: str) -> None:
        part = self._parts[name]
        part.process = part.start()
        part.down = False

    def pid(self, name: str) -> int:
        process = self._parts[name].process
        if process is None:
            raise AssertionError(name)
        return process.pid

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL, *, family: bool = False) -> int | None:
        """Send the signal; if that is to end the process, wait for it, and leave it down until `spawn`.

        A SIGKILL of a whole `family`, or of the API, takes along what it started; else a worker's own processes are left
        to find out.

        Returns its exit code, or None where it did not end by that.
        """
        part = self._parts[name]
        if part.process is None:
            raise AssertionError(name)
        if number in {signal.SIGSTOP, signal.SIGCONT}:
            part.process.send_signal(number)
            return None
        part.down = True
        if number == signal.SIGKILL and (family or name == "api") and part.process.poll() is None:
            processes.kill_family(part.process.pid)
        else:
            part.process.send_signal(number)
        give_up = time.monotonic() + _STOP_SECONDS
        while part.process.poll() is None and time.monotonic() < give_up:
            time.sleep(0.01)
        code = part.process.poll()
        if code is None:
            part.process.send_signal(signal.SIGKILL)
            part.process.wait()
        return code

    def workers(self) -> list[str]:
        return [name for name in self._parts if name.startswith("worker")]

    def _watch(self) -> None:
        while not self._stopping.wait(_WATCH_SECONDS):
            for part in list(self._parts.values()):
                code = part.process.poll() if part.process else None
                if not part.down and code is not None:
                    told = self._last_words(part.name)
                    if _LIBFAKETIMES_OWN not in told:
                        self.deaths.append(f"{part.name} ended by itself with {code}: {told}")
                    self.spawn(part.name)

    def _last_words(self, name: str) -> str:
        lines = (self.logs / f"{name}.log").read_text(errors="replace").splitlines()
        return " / ".join(lines[-_LAST_LINES:])

    def broker_answers(self) -> bool:
        with contextlib.suppress(redis.RedisError), redis.Redis(port=self.broker_port) as client:
            return bool(client.ping())
        return False

    def ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", timeout=5).is_success
        return False

    def held(self) -> tuple[datetime, dict[int, int]]:
        """The database's time, and the images that are leased now with their attempts."""
        with self.database.read() as session:
            rows = session.execute(select(Image.id, Image.attempts).where(Image.state == ImageState.LEASED))
            return session.scalars(select(now())).one(), {row.id: row.attempts for row in rows}

    def waiting(self) -> int:
        """Images that are not finished, as far as the database answers."""
        with self.database.read() as session:
            states = (ImageState.QUEUED, ImageState.LEASED)
            return session.scalars(select(func.count()).select_from(Image).where(Image.state.in_(states))).one()

    def open_batches(self) -> int:
        with self.database.read() as session:
            return session.scalars(select(func.count()).select_from(Batch).where(Batch.state.in_(OPEN))).one()

    def settle(self, seconds: float) -> bool:
        """Wait until every batch is closed, and return whether that happened in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.open_batches():
                return True
            time.sleep(0.1)
        return False

    def stop(self) -> None:
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        for part in self._parts.values():
            if part.process and part.process.poll() is None:
                processes.kill_family(part.process.pid)
                part.process.wait()
        for proxy in self.proxies.values():
            proxy.close()
        self.database.close()
        if self.server:
            self.server.drop(self._database_url)


@contextmanager
def running(home: Path, logs: Path, make: Make, server: Server | None) -> Iterator[Field]:
    made = Field(home, logs, make, server)
    try:
        made.start()
        yield made
    finally:
        made.stop()
