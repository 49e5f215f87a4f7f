"""Processes of the system: real programs, or forks of one that has everything imported, which start in no time."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from tests.service import until

# What Celery imports when it starts: a thousand workers are started, and it is half of what a start costs.
_CELERY = ["app.control", "apps.worker", "backends.base", "bin.celery", "bin.worker", "concurrency.thread",
           "events.receiver", "fixups.django", "worker.autoscale", "worker.components", "worker.consumer",
           "worker.control", "worker.strategy"]  # fmt: skip
_PRELOADED = ["tests.chaos.standin", "api.server", *(f"celery.{name}" for name in _CELERY), "kombu.transport.redis",
              "worker.process", "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite"]  # fmt: skip
_forks = multiprocessing.get_context("forkserver")


class Process(Protocol):
    """What a field asks of each of its processes."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self) -> int: ...

    def send_signal(self, number: signal.Signals, /) -> None: ...


def start(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
    """Run a program."""
    with log.open("ab") as file:
        return subprocess.Popen(
            command, env=os.environ | dict(environment), stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )


class Fork:
    """A stand-in process, forked from one that imported all of it and did nothing else."""

    def __init__(self, what: str, environment: Mapping[str, str], log: Path) -> None:
        _forks.set_forkserver_preload(_PRELOADED)
        self._process = _forks.Process(target=_become, args=(what, dict(environment), log))
        self._process.start()

    @property
    def pid(self) -> int:
        if self._process.pid is None:
            raise AssertionError("not started")
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int:
        self._process.join()
        code = self._process.exitcode
        if code is None:
            raise AssertionError("not ended")
        return code

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


def freeze(pid: int) -> list[psutil.Process]:
    """Stop a process and those that it started where they are; empty where it is gone."""
    try:
        parent = psutil.Process(pid)
        parent.suspend()  # first: then it starts no more
        until(lambda: parent.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}, "it has stopped")
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    for process in family[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    return family


def kill_family(pid: int) -> None:
    """Kill a process and those that it started; when this returns, they change nothing more.

    gunicorn's own process only watches: the one that answers requests is its child, and would outlive it for a while.
    """
    family = freeze(pid)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    until(lambda: not any(map(_runs, family)), "it and its children have ended")


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _become(what: str, environment: dict[str, str], log: Path) -> None:
    from tests.chaos import standin  # noqa: PLC0415 - only in the fork

    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment | {"CXR_SUPERVISOR_PID": str(os.getppid())})
    standin.run(what)
