"""How fast this worker is while it works: what a forecast is made of."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_LONG_ENOUGH_SECONDS = 0.5


class Pace:
    """Counts images against the time in which at least one thread was at work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._working = 0
        self._since = 0.0
        self._seconds = 0.0
        self._images = 0
        self._latest: float | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        with self._lock:
            if not self._working:
                self._since = time.monotonic()
            self._working += 1
        try:
            yield
        finally:
            with self._lock:
                self._working -= 1
                if not self._working:
                    self._seconds += time.monotonic() - self._since

    def add(self, images: int) -> None:
        with self._lock:
            self._images += images

    def images_per_second(self) -> float | None:
        """Since the last time it was asked, or as then if there was too little work since; None before any."""
        with self._lock:
            present = time.monotonic()
            seconds = self._seconds + (present - self._since if self._working else 0)
            if seconds > _LONG_ENOUGH_SECONDS and self._images:
                self._latest = self._images / seconds
                self._seconds, self._images, self._since = 0.0, 0, present
            return self._latest
