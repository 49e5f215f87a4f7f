"""Recalls: every result of one model version seen anew by another, by the server's trainer."""

from urllib.parse import quote

from cxr_client.answers import read
from cxr_client.records import Reclassification
from cxr_client.transport import Transport

_PATH = "/v1/reclassifications"


class Reclassifications:
    """Every method raises ClientError."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def ask(self, old: str, new: str, *, dry_run: bool = False) -> Reclassification:
        """Have every result of `old` seen anew by `new`; a dry run only counts what would change."""
        asked = {"model": old, "with": new, "dry_run": dry_run}
        return read(Reclassification, self._transport.json("POST", _PATH, json=asked))

    def all(self) -> list[Reclassification]:
        """All of them, newest first."""
        return [read(Reclassification, one) for one in self._transport.pages(_PATH, size=100)]

    def one(self, run_id: str) -> Reclassification:
        """Where it stands."""
        return read(Reclassification, self._transport.json("GET", f"{_PATH}/{quote(run_id, safe='')}"))

    def cancel(self, run_id: str) -> Reclassification:
        """Stop it; what it has amended so far stays."""
        return read(Reclassification, self._transport.json("POST", f"{_PATH}/{quote(run_id, safe='')}/cancel"))
