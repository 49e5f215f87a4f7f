"""Polling made cheap: an answer that has not changed is 304, and `Prefer: wait=N` waits for a change."""

import hashlib
import math
import re
import threading
import time
from collections.abc import Callable
from typing import Final

from flask import Request, Response
from pydantic import BaseModel

LONGEST_WAIT_SECONDS: Final = 30
_LOOK_SECONDS = 0.25
_PAUSE_SECONDS = 2
_LONGEST_PAUSE_SECONDS = 60
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\d{1,6})(?:$|[,;\s])")


class Patience:
    """Lets only so many requests wait at once, so that waiting never takes every thread of the server."""

    def __init__(self, places: int) -> None:
        self._places = threading.BoundedSemaphore(max(places, 1))

    def wait(self, seconds: float, changed: Callable[[], bool]) -> bool:
        """Wait until something changed, and return whether there was a place to wait at all."""
        if not self._places.acquire(blocking=False):
            return False
        try:
            end = time.monotonic() + seconds
            while not changed() and time.monotonic() < end:
                time.sleep(_LOOK_SECONDS)
        finally:
            self._places.release()
        return True


def wanted_seconds(request: Request) -> int:
    """What `Prefer: wait=N` asks for (RFC 7240), 0 without it."""
    asked = _WAIT.search(request.headers.get("Prefer", ""))
    return min(int(asked[1]), LONGEST_WAIT_SECONDS) if asked else 0


def pause(eta_seconds: float | None) -> str:
    """What Retry-After asks for: often enough to see the end soon, seldom enough for a long queue."""
    if eta_seconds is None:
        return str(_PAUSE_SECONDS)
    return str(math.ceil(min(max(eta_seconds / 4, 1), _LONGEST_PAUSE_SECONDS)))


def tag(answer: BaseModel, *, without: set[str]) -> str:
    """A weak entity tag over the answer, `without` what changes by itself."""
    return hashlib.sha256(answer.model_dump_json(exclude=without).encode()).hexdigest()[:32]


def tagged(answer: BaseModel, entity_tag: str, request: Request) -> Response:
    """The answer as JSON with its tag, or 304 if the client has it already."""
    response = Response(answer.model_dump_json(), content_type="application/json")
    response.set_etag(entity_tag, weak=True)
    response.make_conditional(request)
    return response
