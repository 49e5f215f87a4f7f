"""The process that decodes: paths come in, radiographs go out; whatever a file does to it, the worker stays."""

import hashlib
import os
import resource
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from db.identifiers import Identifiers
from worker.formats import DICOM, MAGIC_BYTES, MAX_PIXELS, media_type
from worker.radiograph import Grey, decode_noting
from worker.rejection import NOTES, REASONS, ImageRejected


@dataclass(frozen=True)
class Decoded:
    """One radiograph out of its file, `identifiers` only where that is DICOM.

    The `reasons` forbid a score, the `notes` say what was done to its pixels.
    """

    grey: Grey
    milliseconds: float
    identifiers: Identifiers | None
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


Answer = Decoded | ImageRejected


def serve(descriptor: int, *, seconds: int, address_space: int, max_pixels: int) -> None:
    """Answer lists of paths, until the worker is gone; end where one path takes longer than `seconds`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides when its children stop
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Connection(descriptor) as worker:
        worker.send(os.getpid())
        try:
            while paths := worker.recv():
                worker.send([_in_time(path, seconds, max_pixels) for path in paths])
        except (EOFError, ConnectionError):
            return


def _in_time(path: Path, seconds: int, max_pixels: int) -> Answer:
    signal.alarm(seconds)  # ends this process, even within a C library
    try:
        return answer(path, max_pixels=max_pixels)
    finally:
        signal.alarm(0)


def answer(path: Path, *, max_pixels: int = MAX_PIXELS) -> Answer:
    """Decode the blob at `path`, whose name is the SHA-256 of its bytes."""
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != path.name:
            return ImageRejected("image_lost", "the stored bytes are not those that were kept")
        return decoded(data, max_pixels=max_pixels)
    except ImageRejected as rejected:
        return ImageRejected(rejected.code, rejected.words)  # without its cause, which may quote the file
    except OSError as error:
        return ImageRejected("image_lost", f"the stored bytes cannot be read: {type(error).__name__}")
    except MemoryError:
        return ImageRejected("decode_memory", "not enough memory for this image")


def decoded(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Decode one file's bytes, or raise ImageRejected."""
    start = time.perf_counter()
    grey, marks = decode_noting(data, max_pixels=max_pixels)
    identifiers = None
    if media_type(data[:MAGIC_BYTES]) == DICOM:
        from worker import dicom  # noqa: PLC0415 - see worker.radiograph.decode

        told = dicom.told(data)
        identifiers, marks = told.identifiers, told.marks + marks
    reasons, notes = (tuple(mark for mark in marks if mark in table) for table in (REASONS, NOTES))
    return Decoded(grey, (time.perf_counter() - start) * 1000, identifiers, reasons, notes)
