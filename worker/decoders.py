"""A pool of child processes that decode, one per core: a file that kills one costs only itself."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from worker.decoder import Answer, Decoded
from worker.rejection import ImageRejected

__all__ = ["Decoded", "Decoders", "DecodersUnusable"]

# Many enough that crossing the pipe costs nothing, few enough that little is done again when a child dies.
_TOGETHER = 32
_START_SECONDS = 60
_PATIENCE_SECONDS = 5  # a child ends itself in time; longer than this it takes only when it is stopped
# All that a child is told: it reads foreign files, so it holds no password and no key.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONDONTWRITEBYTECODE")

_ALLOCATION = {
    # Pixels come from memory that was used before, not each time from fresh pages; 2 % of the decoding time.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "OPENBLAS_NUM_THREADS": "1",  # its threads would count as memory
}


class Decoders:
    """Decodes files outside this process, under a limit of time and of memory for each image."""

    def __init__(self, processes: int, *, seconds: int, address_space: int) -> None:
        number = processes or os.cpu_count() or 1
        self._children = [_Child(seconds, address_space) for _ in range(number)]
        self._idle: SimpleQueue[_Child] = SimpleQueue()
        for child in self._children:
            self._idle.put(child)
        self._threads = ThreadPoolExecutor(number, thread_name_prefix="decode")

    def warm_up(self) -> None:
        """Start every child now, so that the first image does not wait for imports."""
        list(self._threads.map(_Child.start, self._children))

    def decode(
        self, paths: Sequence[Path], *, meanwhile: Callable[[], object] = lambda: None, every: float | None = None
    ) -> list[Answer]:
        """Return one answer per path, in order; each path ends in the SHA-256 of its bytes.

        Calls `meanwhile` again and again while that takes longer than `every` seconds. Raises DecodersUnusable.
        """
        size = min(_TOGETHER, -(-len(paths) // len(self._children)) or 1)
        chunks = [paths[start : start + size] for start in range(0, len(paths), size)]
        asked = [self._threads.submit(self._decode, chunk) for chunk in chunks]
        while wait(asked, timeout=every).not_done:
            meanwhile()
        return list(chain.from_iterable(future.result() for future in asked))

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        for child in self._children:
            child.stop()

    def _decode(self, chunk: Sequence[Path]) -> list[Answer]:
        child = self._idle.get()  # there are as many threads as children
        try:
            return child.decode(chunk)
        finally:
            self._idle.put(child)


class DecodersUnusable(Exception):
    """No decoding process can be started here; that is no fault of an image."""


class _ChildEnded(Exception):
    """The process is gone; `code` is what it ended with."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class _Child:
    """One decoding process, started again whenever it ends; used by one thread at a time."""

    def __init__(self, seconds: int, address_space: int) -> None:
        self._seconds = seconds
        self._address_space = address_space
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Sequence[Path], Any]

    def start(self) -> None:
        """Start it unless it runs. Raises DecodersUnusable."""
        if self._process:
            return
        ours, theirs = socket.socketpair()
        with theirs:
            limits = f"seconds={self._seconds}, address_space={self._address_space}"
            program = f"from worker import decoder; decoder.serve({theirs.fileno()}, {limits})"
            command = [sys.executable, "-P", "-c", program]
            try:
                self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=_environment())
            except OSError as error:
                ours.close()
                raise DecodersUnusable(f"the decoding process cannot be started: {error.strerror}") from error
        self._connection = Connection(ours.detach())
        try:
            self._receive(_START_SECONDS)
        except _ChildEnded as ended:
            raise DecodersUnusable(f"the decoding process does not start: exit code {ended.code}") from ended

    def decode(self, paths: Sequence[Path]) -> list[Answer]:
        try:
            return self._ask(paths)
        except _ChildEnded:  # which of them ended it, or none of them, shows when each is asked for alone
            return [self._alone(path) for path in paths]

    def _alone(self, path: Path) -> Answer:
        try:
            return self._ask([path])[0]
        except _ChildEnded as ended:
            if ended.code == -signal.SIGALRM:
                return ImageRejected("decode_timeout", f"more than {self._seconds} s")
            return ImageRejected("decoder_died", f"the decoding process ended twice: {ended.code}")

    def _ask(self, paths: Sequence[Path]) -> list[Answer]:
        self.start()
        answers: list[Answer] = self._receive(self._seconds * len(paths) + _PATIENCE_SECONDS, paths)
        return answers

    def _receive(self, seconds: int, paths: Sequence[Path] = ()) -> Any:
        """Send the paths, if any, and return what comes back, or stop the child and raise _ChildEnded."""
        try:
            if paths:
                self._connection.send(paths)
            if self._connection.poll(seconds):
                return self._connection.recv()
        except (EOFError, OSError):
            pass
        except BaseException:
            self.stop()  # its answer must not be taken for that to the next question
            raise
        raise _ChildEnded(self.stop())

    def stop(self) -> int | None:
        """End it if it runs, and return its exit code."""
        if self._process is None:
            return None
        self._connection.close()
        self._process.kill()
        code = self._process.wait()
        self._process = None
        return code


def _environment() -> dict[str, str]:
    given = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    importable = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    return given | _ALLOCATION | {"PYTHONPATH": importable}
