"""The models of a server: which there are, who is champion, and how the next one is made."""

from urllib.parse import quote

from cxr_client.answers import read
from cxr_client.models import ModelList, ModelWhole, Monitoring, Promotion
from cxr_client.records import RetrainingRun
from cxr_client.transport import Transport


class Models:
    """Every method raises ClientError."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def all(self) -> ModelList:
        """The registered versions, and the last change of champion that was asked for."""
        return read(ModelList, self._transport.json("GET", "/v1/models"))

    def one(self, version: str) -> ModelWhole:
        """One version with its figures, how it was made, and what it would have said of late."""
        return read(ModelWhole, self._transport.json("GET", f"/v1/models/{quote(version, safe='')}"))

    def monitoring(self, version: str) -> Monitoring:
        """How it does by ground truth, and how far what comes in has moved."""
        return read(Monitoring, self._transport.json("GET", f"/v1/models/{quote(version, safe='')}/monitoring"))

    def promote(self, version: str, *, who: str, reason: str) -> Promotion:
        """Let the version become champion once a worker has tried it."""
        return self._approved(version, "promote", who, reason)

    def roll_back(self, version: str, *, who: str, reason: str) -> Promotion:
        """Make the one champion again that `version` replaced."""
        return self._approved(version, "rollback", who, reason)

    def retrain(self) -> RetrainingRun:
        """Ask for a retraining run."""
        return read(RetrainingRun, self._transport.json("POST", _RUNS))

    def runs(self) -> list[RetrainingRun]:
        """All runs, newest first."""
        return [read(RetrainingRun, one) for one in self._transport.pages(_RUNS, size=_PAGE)]

    def run(self, run_id: str) -> RetrainingRun:
        """Where it stands."""
        return read(RetrainingRun, self._transport.json("GET", f"{_RUNS}/{quote(run_id, safe='')}"))

    def cancel_run(self, run_id: str) -> RetrainingRun:
        """Stop the run after its present epoch."""
        return read(RetrainingRun, self._transport.json("POST", f"{_RUNS}/{quote(run_id, safe='')}/cancel"))

    def _approved(self, version: str, what: str, who: str, reason: str) -> Promotion:
        address = f"/v1/models/{quote(version, safe='')}/{what}"
        return read(Promotion, self._transport.json("POST", address, json={"who": who, "reason": reason}))


_RUNS = "/v1/retraining-runs"
_PAGE = 100
