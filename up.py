"""One machine's processes, started and stopped together: Valkey, API, workers, beat."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx
from sqlalchemy.exc import DBAPIError

import running
from db import duties, heartbeats, registry
from db import migrate as migrations
from db.blobs import Blobs
from db.database import Database
from settings import Settings
from training import shipped
from worker import broker
from worker.child import end_with

_START_SECONDS = 120
_STOP_SECONDS = 30
_RESTART_SECONDS = 2
_RUN_SECONDS = 2
_SUPERVISOR = "CXR_SUPERVISOR_PID"
_ORDER = ("api", "beat", "trainer", "worker", "valkey")


class StartFailed(Exception):
    """The instance cannot run here; the message says why and what to do."""


@dataclass
class Part:
    """One process of the instance; started again when it dies."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None


class Instance:
    """Everything that runs on this machine for one CXR_HOME."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._parts: list[Part] = []
        self._stopping = threading.Event()
        self._ending = threading.Lock()
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._lock: IO[str] | None = None
        self.url = f"http://{settings.host}:{settings.port}"

    def __enter__(self) -> Self:
        if not self._parts:
            self.start()
        return self

    def start(self) -> None:
        """Start everything, or raise StartFailed and leave nothing running."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def pids(self, name: str) -> list[int]:
        """The processes of that name, such as `worker`, without their children."""
        return [part.process.pid for part in self._parts if part.name.startswith(name) and part.process]

    def wait(self) -> None:
        """Return when the instance is told to stop."""
        self._stopping.wait()

    def stop(self) -> None:
        """Stop every process that was started, the API first, the broker last."""
        with self._ending:
            self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        order = sorted(self._parts, key=lambda part: _ORDER.index(part.name.split("-")[0]))
        for part in [part for part in order if part.name != "valkey"]:
            _signal(part, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for part in order:
            if part.name == "valkey":
                _signal(part, signal.SIGTERM)
            _end(part, deadline)
        if self._lock:
            (self._settings.home / running.INSTANCE).unlink(missing_ok=True)
            self._lock.close()

    def _start(self) -> None:
        home = self._settings.home
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._take_lock()
        _check_port(self._settings)
        (home / "logs").mkdir(exist_ok=True)
        if broker.is_embedded(self._settings):
            self._start_broker()
        self._launch("api", "api")
        self._launch("beat", "beat")
        for number, environment in enumerate(_worker_environments(self._settings), start=1):
            self._launch(f"worker-{number}", "worker", **environment)
        if self._settings.retrain_cron:
            self._launch_trainer()
        self._await_readiness()
        details = {"url": self.url, "pid": os.getpid()}
        (home / running.INSTANCE).write_text(json.dumps(details), encoding="utf-8")
        self._watcher.start()
        if not self._settings.retrain_cron:
            threading.Thread(target=self._await_a_run, name="awaiting", daemon=True).start()

    def _launch_trainer(self) -> None:
        self._launch("trainer", "trainer", CUDA_VISIBLE_DEVICES="-1")  # the GPUs are the line's

    def _await_a_run(self) -> None:
        """Start the trainer with the first run that somebody asks for: until then nobody pays for it."""
        database = Database(self._settings.database_url)
        while not self._stopping.wait(_RUN_SECONDS):
            with contextlib.suppress(DBAPIError), database.read() as session:
                if duties.any_unfinished(session):
                    break
        database.close()
        with self._ending:
            if not self._stopping.is_set():
                self._say("a run waits; starting the trainer")
                self._launch_trainer()

    def _take_lock(self) -> None:
        self._lock = (self._settings.home / "lock").open("w", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            self._lock = None
            words = f"an instance already runs in {self._settings.home}: use it, or set CXR_HOME and CXR_PORT"
            raise StartFailed(f"{words} for another") from None

    def _start_broker(self) -> None:
        self._parts.append(part := Part("valkey", broker.command(self._settings), {}))
        self._spawn(part)
        self._await(lambda: broker.answers(self._settings), part, "the broker")

    def _launch(self, name: str, command: str, **environment: str) -> None:
        mine = self._settings.environment() | {_SUPERVISOR: str(os.getpid()), "CXR_KEY": ""} | environment
        part = Part(name, [sys.executable, "-P", "-m", "cxr", command], mine)
        self._parts.append(part)
        self._spawn(part)

    def _spawn(self, part: Part) -> None:
        with (self._settings.home / "logs" / f"{part.name}.log").open("ab") as log:
            part.process = subprocess.Popen(
                part.command,
                env=os.environ | part.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone; we stop them in order
            )

    def _await_readiness(self) -> None:
        api = next(part for part in self._parts if part.name == "api")
        self._await(lambda: _is_ready(self.url), api, "the API")
        database = Database(self._settings.database_url)
        for part in self._parts:
            if part.name.startswith("worker"):
                self._await(lambda part=part: _is_known(database, part), part, part.name)  # type: ignore[misc]
        database.close()

    def _await(self, condition: Callable[[], bool], part: Part, what: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not condition():
            log = self._settings.home / "logs" / f"{part.name}.log"
            if part.process is None or part.process.poll() is not None:
                raise StartFailed(f"{what} ended at once; its log is {log}:\n{_tail(log)}")
            if time.monotonic() > deadline:
                raise StartFailed(f"{what} is not ready after {_START_SECONDS} s; its log is {log}")
            time.sleep(0.1)

    def _watch(self) -> None:
        while not self._stopping.wait(_RESTART_SECONDS):
            for part in self._parts:
                if part.process and part.process.poll() is not None:
                    self._say(f"{part.name} ended with {part.process.returncode}; starting it again")
                    self._spawn(part)


def bring_up_to_date(settings: Settings) -> None:
    """Migrate, register the shipped model, and make it the champion where there is none."""
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(settings.database_url)
    migrations.upgrade(database)
    card, weights = shipped.load()
    with database.write() as session:
        registry.register(session, Blobs(settings.blobs), card, weights, actor="shipped")
        if not registry.has_champion(session):
            registry.appoint(session, registry.CHAMPION, card.version, actor="shipped")
    database.close()


def die_with_supervisor() -> None:
    """Called in a started process: end when the one that started it is killed (Linux)."""
    if supervisor := os.environ.get(_SUPERVISOR):
        end_with(int(supervisor))


def _worker_environments(settings: Settings) -> list[dict[str, str]]:
    """One worker per GPU, each seeing only its own; without a GPU, one."""
    gpus = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    workers = settings.workers or max(gpus, 1)
    return [{"CUDA_VISIBLE_DEVICES": str(number % gpus)} if gpus else {} for number in range(workers)]


def _check_port(settings: Settings) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            words = (
                f"port {settings.port} on {settings.host} cannot be used ({error.strerror}): set CXR_PORT or CXR_HOST"
            )
            raise StartFailed(words) from error


def _is_ready(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).is_success
    return False


def _is_known(database: Database, part: Part) -> bool:
    """Whether the worker has given its first sign of life."""
    if part.process is None:
        return False
    mine = f"{socket.gethostname()}-{part.process.pid}-"
    with database.read() as session:
        return any(sign.worker.startswith(mine) for sign in heartbeats.signs(session))


def _signal(part: Part, number: signal.Signals) -> None:
    if part.process and part.process.poll() is None:
        part.process.send_signal(number)


def _end(part: Part, deadline: float) -> None:
    if part.process is None:
        return
    try:
        part.process.wait(max(deadline - time.monotonic(), 1))
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(part.process.pid, signal.SIGKILL)
        part.process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
