"""A pool of child processes that decode, one per core: a file that kills one costs only itself."""

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Self

from settings import Settings
from worker.child import Child, Ended
from worker.decoder import Answer, Decoded
from worker.formats import MAX_PIXELS
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

    def __init__(self, processes: int, *, seconds: int, address_space: int, max_pixels: int = MAX_PIXELS) -> None:
        number = processes or os.cpu_count() or 1
        self._decoders = [_Decoder(seconds, address_space, max_pixels) for _ in range(number)]
        self._idle: SimpleQueue[_Decoder] = SimpleQueue()
        for decoder in self._decoders:
            self._idle.put(decoder)
        self._threads = ThreadPoolExecutor(number, thread_name_prefix="decode")

    @classmethod
    def of(cls, settings: Settings, processes: int) -> Self:
        """Return them with the limits that are set; none is started before it is needed."""
        return cls(
            processes,
            seconds=settings.decode_seconds,
            address_space=settings.decode_bytes,
            max_pixels=settings.max_pixels,
        )

    def warm_up(self) -> None:
        """Start every child now, so that the first image does not wait for imports."""
        list(self._threads.map(_Decoder.start, self._decoders))

    def decode(
        self, paths: Sequence[Path], *, meanwhile: Callable[[], object] = lambda: None, every: float | None = None
    ) -> list[Answer]:
        """Return one answer per path, in order; each path ends in the SHA-256 of its bytes.

        Calls `meanwhile` again and again while that takes longer than `every` seconds. Raises DecodersUnusable.
        """
        size = min(_TOGETHER, -(-len(paths) // len(self._decoders)) or 1)
        chunks = [paths[start : start + size] for start in range(0, len(paths), size)]
        asked = [self._threads.submit(self._decode, chunk) for chunk in chunks]
        while wait(asked, timeout=every).not_done:
            meanwhile()
        return list(chain.from_iterable(future.result() for future in asked))

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        for decoder in self._decoders:
            decoder.stop()

    def _decode(self, chunk: Sequence[Path]) -> list[Answer]:
        decoder = self._idle.get()  # there are as many threads as decoders
        try:
            return decoder.decode(chunk)
        finally:
            self._idle.put(decoder)


class DecodersUnusable(Exception):
    """No decoding process can be started here; that is no fault of an image."""


class _Decoder:
    """One decoding process, started again whenever it ends; used by one thread at a time."""

    def __init__(self, seconds: int, address_space: int, max_pixels: int) -> None:
        self._seconds = seconds
        given = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        limits = {"seconds": seconds, "address_space": address_space, "max_pixels": max_pixels}
        self._child = Child("worker.decoder", given | _ALLOCATION, **limits)

    def start(self) -> None:
        """Start it unless it runs. Raises DecodersUnusable."""
        if self._child.runs:
            return
        try:
            self._child.start(_START_SECONDS)
        except OSError as error:
            raise DecodersUnusable(f"the decoding process cannot be started: {error.strerror}") from error
        except Ended as ended:
            raise DecodersUnusable(f"the decoding process does not start: {ended}") from ended

    def decode(self, paths: Sequence[Path]) -> list[Answer]:
        try:
            return self._ask(paths)
        except Ended:  # which of them ended it, or none of them, shows when each is asked for alone
            return [self._alone(path) for path in paths]

    def stop(self) -> None:
        self._child.stop()

    def _alone(self, path: Path) -> Answer:
        try:
            return self._ask([path])[0]
        except Ended as ended:
            if ended.code == -signal.SIGALRM:
                return ImageRejected("decode_timeout", f"more than {self._seconds} s")
            return ImageRejected("decoder_died", f"the decoding process ended twice: {ended.code}")

    def _ask(self, paths: Sequence[Path]) -> list[Answer]:
        self.start()
        answers: list[Answer] = self._child.ask(paths, self._seconds * len(paths) + _PATIENCE_SECONDS)
        return answers
