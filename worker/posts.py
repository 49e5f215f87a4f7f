"""The few places on the line; a ticket that finds them taken makes someone who stands there look once more."""

import threading
from collections.abc import Callable


class Posts:
    """Runs `work` in at most `places` threads at a time, and never overlooks a call."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._missed = False
        self._lock = threading.Lock()

    def call(self, work: Callable[[], object]) -> None:
        """Run `work`, or return at once if every place is taken; then whoever ends next runs it again."""
        with self._lock:
            if not self._free:
                self._missed = True
                return
            self._free -= 1
        leaving = False
        try:
            while not leaving:
                work()
                leaving = self._leave()
        finally:
            if not leaving:  # work failed
                with self._lock:
                    self._free += 1

    def _leave(self) -> bool:
        """Free the place, unless a call was missed: looking and leaving are one step."""
        with self._lock:
            missed, self._missed = self._missed, False
            self._free += not missed
        return not missed
