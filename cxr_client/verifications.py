"""Verifications: a worker computes a result again when it is asked to, so the answer comes later."""

import time
from urllib.parse import quote

from cxr_client.answers import Answer, data, read
from cxr_client.errors import StillOpen
from cxr_client.records import Verification
from cxr_client.transport import Transport

_PAUSE_SECONDS = 1.0


class Asked(Answer):
    asked: int


def made(transport: Transport, result_id: str, seconds: float) -> Verification:
    """Ask for one, and return what was found. Raises StillOpen."""
    end = time.monotonic() + seconds
    path = f"/v1/results/{quote(result_id, safe='')}/verifications"
    asked = read(Asked, transport.json("POST", path)).asked
    while True:
        for one in data(transport.json("GET", path, params={"asked": asked})):
            return read(Verification, one)
        if time.monotonic() + _PAUSE_SECONDS > end:
            raise StillOpen(f"the verification of {result_id}", seconds)
        time.sleep(_PAUSE_SECONDS)
