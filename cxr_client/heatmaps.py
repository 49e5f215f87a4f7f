"""Heatmaps: a worker draws one when it is asked for, so an answer may come later."""

import time
from typing import Final
from urllib.parse import quote

from cxr_client.errors import StillOpen
from cxr_client.transport import Transport, retry_after_seconds

_ACCEPTED: Final = 202


def drawn(transport: Transport, result_id: str, seconds: float) -> bytes:
    """Ask until it is there, and return the PNG. Raises StillOpen."""
    end = time.monotonic() + seconds
    while True:
        with transport.answered("GET", f"/v1/results/{quote(result_id, safe='')}/heatmap.png") as answer:
            if answer.status_code != _ACCEPTED:
                return answer.read()
            pause = retry_after_seconds(answer) or 1.0
        if time.monotonic() + pause > end:
            raise StillOpen(f"the heatmap of {result_id}", seconds)
        time.sleep(pause)
