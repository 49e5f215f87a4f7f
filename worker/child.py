"""A process that answers over a socket: whatever a question does to it, the one that asks stays."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def end_with(parent: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Let this process end by that signal when that one, which started it, is gone (Linux)."""
    if sys.platform != "linux":
        return
    parent_death_signal = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(parent_death_signal, number)
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")


class Ended(Exception):
    """The process is gone; `code` is what it ended with."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


class Child:
    """Runs `serve(descriptor, **options)` of a module, which says one thing first and then answers; for one thread at a time."""

    def __init__(self, module: str, environment: Mapping[str, str], **options: Any) -> None:
        self._module, self._options = module, options
        importable = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        self._environment = {**environment, "PYTHONPATH": importable}
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any]

    @property
    def runs(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    def start(self, seconds: float, meanwhile: Callable[[], object] = lambda: None, every: float | None = None) -> Any:
        """Start it, and return what it says first. Raises OSError, or Ended."""
        ours, theirs = socket.socketpair()
        with theirs:
            program = f"from {self._module} import serve; serve({theirs.fileno()}, **{self._options!r})"
            command = [sys.executable, "-P", "-c", program]
            try:
                self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=self._environment)
            except OSError:
                ours.close()
                raise
        self._connection = Connection(ours.detach())
        return self._receive(seconds, meanwhile, every)

    def ask(
        self,
        question: Any,
        seconds: float,
        meanwhile: Callable[[], object] = lambda: None,
        every: float | None = None,
    ) -> Any:
        """Return its answer, or stop it and raise Ended."""
        try:
            self._connection.send(question)
        except OSError:
            raise Ended(self.stop()) from None
        except BaseException:
            self.stop()
            raise
        return self._receive(seconds, meanwhile, every)

    def _receive(self, seconds: float, meanwhile: Callable[[], object], every: float | None) -> Any:
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                if self._connection.poll(min(left, every or left)):
                    return self._connection.recv()
                meanwhile()
        except (EOFError, OSError):
            pass
        except BaseException:
            self.stop()  # its answer must not be taken for that to the next question
            raise
        raise Ended(self.stop())

    def stop(self) -> int | None:
        """End it if it runs, and return its exit code."""
        if self._process is None:
            return None
        self._connection.close()
        self._process.kill()
        code = self._process.wait()
        self._process = None
        return code
