"""Stands in for worker.predictor where faults need volume: starts at once, and some images do harm on purpose."""

import ctypes
import hashlib
import os
import resource
import signal
import time
from collections.abc import Callable, Sequence
from types import MappingProxyType

import psutil

from worker.decision import Decision, ModelUnusable, Prediction
from worker.radiograph import PREPROCESSING, Grey

WEIGHTS = b"stand-in "
_LITTLE_BYTES = 512 << 20
_PIECE_BYTES = 16 << 20
_SECONDS = 0.02  # of no work for each image: without it a claim would be over before a fault can meet it


def _raise() -> None:
    raise ValueError("a poisonous image")


def _exit() -> None:
    os._exit(3)


def _crash() -> None:
    ctypes.string_at(0)


def _allocate() -> None:
    """Take all there is, from the process's other threads too; it is made little first."""
    present = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + _LITTLE_BYTES, present[1]))
    taken = []
    try:
        while True:
            taken.append(bytearray(_PIECE_BYTES))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, present)


def _hang() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    time.sleep(3600)


# The grey level of an even picture says what harm it does.
POISONS: MappingProxyType[int, Callable[[], None]] = MappingProxyType(
    {31: _raise, 62: _exit, 93: _crash, 124: _allocate, 155: _hang}
)


class Predictor:
    """Says a number that depends on the weights alone, so that mixed models show."""

    def __init__(self, weights: bytes, decision: Decision, *, preprocessing: str, batch_size: int) -> None:
        del batch_size
        if preprocessing != PREPROCESSING or not weights.startswith(WEIGHTS):
            raise ModelUnusable("these are no stand-in weights")
        self._number = hashlib.sha256(weights).digest()[0] / 255
        self._decision = decision

    def predict(self, greys: Sequence[Grey]) -> list[Prediction]:
        for grey in greys:
            level = int(grey[0, 0])
            if level in POISONS and (grey == level).all():
                POISONS[level]()
        time.sleep(_SECONDS * len(greys))
        return [self._decision.prediction(self._number, self._number) for _ in greys]
