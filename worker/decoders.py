"""A pool of child processes that decode, one per core: a file that kills one costs only itself."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

from worker.decoder import Answer, Decoded
from worker.rejection import ImageRejected

__all__ = ["Decoded", "Decoders"]

# Few enough that all children have work, many enough that crossing the pipe costs nothing.
_TOGETHER = 16
_START_SECONDS = 60
# All that a child is told: it reads foreign files, so it holds no password and no key.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONDONTWRITEBYTECODE")


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

    def decode(self, paths: Sequence[Path]) -> list[Answer]:
        """Return one answer per path, in order; each path ends in the SHA-256 of its bytes."""
        chunks = [paths[start : start + _TOGETHER] for start in range(0, len(paths), _TOGETHER)]
        return list(chain.from_iterable(self._threads.map(self._decode, chunks)))

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


class _Child:
    """One decoding process, started again whenever it ends; used by one thread at a time."""

    def __init__(self, seconds: int, address_space: int) -> None:
        self._seconds = seconds
        self._arguments = (str(seconds), str(address_space))
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection

    def start(self) -> None:
        """Start it unless it runs. Raises RuntimeError where it cannot start at all."""
        if self._process:
            return
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "worker.decoder", str(theirs.fileno()), *self._arguments]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=_environment())
        self._connection = Connection(ours.detach())
        if self._wait(_START_SECONDS) is None:
            raise RuntimeError(f"the decoding process does not start: exit code {self.stop()}")

    def decode(self, paths: Sequence[Path]) -> list[Answer]:
        answers: list[Answer] = []
        blamed = None
        while len(answers) < len(paths):
            answers += self._until_it_ends(paths[len(answers) :])
            if len(answers) == len(paths):
                break
            code = self.stop()
            if code is None:
                answers.append(ImageRejected("decode_timeout", f"more than {self._seconds} s"))
            elif blamed == len(answers):
                answers.append(ImageRejected("decoder_died", f"the decoding process ended twice: {code}"))
            else:
                blamed = len(answers)  # somebody else may have killed it: once more
        return answers

    def stop(self) -> int | None:
        """End it and return its exit code, None if it was running until now."""
        if self._process is None:
            return None
        self._connection.close()
