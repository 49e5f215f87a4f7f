"""A pool of child processes that decode, one per core: a file that kills one costs only itself."""

import os
import resource
import signal
import time
from collections.abc import Sequence
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from db.identifiers import Identifiers
from worker.formats import DICOM, MAGIC_BYTES, media_type
from worker.radiograph import Grey, decode
from worker.rejection import ImageRejected

# Few enough that all children have work, many enough that crossing the pipe costs nothing.
_TOGETHER = 16


@dataclass(frozen=True)
class Decoded:
    """One radiograph out of its file; `identifiers` only where the file is DICOM."""

    grey: Grey
    milliseconds: float
    identifiers: Identifiers | None


class Decoders:
    """Decodes files outside this process, under a limit of time and of memory for each image."""

    def __init__(self, processes: int, *, seconds: int, address_space: int) -> None:
        self._seconds = seconds
        self._pool = ProcessPool(
            max_workers=processes or os.cpu_count() or 1,
            initializer=_confine,
            initargs=(address_space,),
            context=get_context("spawn"),  # TensorFlow's threads do not survive a fork
        )

    def warm_up(self) -> None:
        """Start every child now, so that the first image does not wait for imports."""
        for future in [self._pool.schedule(_nothing) for _ in range(self._pool._context.workers)]:  # noqa: SLF001
            future.result()

    def decode(self, paths: Sequence[Path]) -> list[Decoded | ImageRejected]:
        """Return one answer per path, in order."""
        chunks = [paths[start : start + _TOGETHER] for start in range(0, len(paths), _TOGETHER)]
        futures = [self._schedule(chunk) for chunk in chunks]
        return [
            answer for chunk, future in zip(chunks, futures, strict=True) for answer in self._collect(chunk, future)
        ]

    def close(self) -> None:
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

    def _schedule(self, chunk: Sequence[Path]) -> Any:
        return self._pool.schedule(_decode_files, args=(chunk,), timeout=self._seconds)

    def _collect(self, chunk: Sequence[Path], future: Any) -> list[Decoded | ImageRejected]:
        try:
            answers: list[Decoded | ImageRejected] = future.result()
        except (TookTooLong, ProcessExpired) as error:
            if len(chunk) > 1:  # one of them did it: find out which
                return [answer for path in chunk for answer in self._collect([path], self._schedule([path]))]
            if isinstance(error, ProcessExpired):
                return [ImageRejected("decoder_died", f"the decoding process ended: {error.exitcode}")]
            return [ImageRejected("decode_timeout", f"more than {self._seconds} s")]
        return answers


def _nothing() -> None:
    time.sleep(0.05)  # long enough that every child takes one


def _confine(address_space: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides when its children stop
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _decode_files(paths: Sequence[Path]) -> list[Decoded | ImageRejected]:
    return [_decode_file(path) for path in paths]


def _decode_file(path: Path) -> Decoded | ImageRejected:
    start = time.perf_counter()
    try:
        data = path.read_bytes()
        grey = decode(data)
        known = _identifiers(data)
    except ImageRejected as rejected:
        return rejected
    except FileNotFoundError:
        return ImageRejected("image_lost", "the stored bytes are missing")
    except MemoryError:
        return ImageRejected("decode_memory", "not enough memory for this image")
    return Decoded(grey, (time.perf_counter() - start) * 1000, known)


def _identifiers(data: bytes) -> Identifiers | None:
    if media_type(data[:MAGIC_BYTES]) != DICOM:
        return None
    from worker import dicom  # noqa: PLC0415 - see worker.radiograph.decode

    return dicom.identifiers(data)
