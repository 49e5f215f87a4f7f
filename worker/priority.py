"""A process that is in nobody's way."""

import os
import time
from collections.abc import Callable
from typing import Final

_ASK_AGAIN_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 30.0


def yield_to_everybody() -> None:
    """Take the processor only where nobody else wants it (Linux), or as little as may be; children inherit it."""
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


class StandBack:
    """Called after each piece of work, it rests so that the work takes `share` of the time while others are `busy`.

    The scheduler alone does not see to that: a process of the lowest class still shares a core's units, its caches
    and the memory's bandwidth with the one beside it.
    """

    def __init__(
        self,
        busy: Callable[[], bool],
        share: float,
        rest: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = busy
        self._rests = 1 / share - 1
        self._rest = rest
        self._clock = clock
        self._since = clock()
        self._asked: float | None = None
        self._busy = False

    def __call__(self) -> None:
        worked = self._clock() - self._since
        if self._rests and self._others_are_busy():
            self._rest(min(worked * self._rests, _LONGEST_PAUSE_SECONDS))
        self._since = self._clock()

    def _others_are_busy(self) -> bool:
        if self._asked is None or self._clock() - self._asked >= _ASK_AGAIN_SECONDS:
            self._busy = self._ask()
            self._asked = self._clock()
        return self._busy
