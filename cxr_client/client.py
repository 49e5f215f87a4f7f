"""One server's batches and results, as methods."""

import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from cxr_client import heatmaps, verifications
from cxr_client.answers import Batch, History, Image, Kind, Limits, Ready, Result, Submitted, read
from cxr_client.drafts import Draft, at
from cxr_client.errors import StillOpen
from cxr_client.keys import Keys
from cxr_client.reclassifications import Reclassifications
from cxr_client.records import AuditEnd, AuditEvent, Label, Labelled, Verification
from cxr_client.succession import Models
from cxr_client.transport import KEY, OnRetry, Transport, read_json, retry_after_seconds
from cxr_client.uploads import File, Progress, Upload
from cxr_client.webhooks import Webhooks

_WAIT_SECONDS = 20
_RECEIVED_SECONDS = 600.0  # the server reads, checks and keeps 5 GiB before it answers
_NOT_MODIFIED = 304
_PAGE = 1000
_BATCHES = 100  # in one page


class Client:
    """Talks to one server with one key. Every method raises ClientError, and tries again what may pass."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        patience_seconds: float = 60.0,
        on_retry: OnRetry = lambda _error, _seconds: None,
    ) -> None:
        self._transport = Transport(url, key, patience_seconds=patience_seconds, on_retry=on_retry)
        self.url = url
        self.models = Models(self._transport)
        self.reclassifications = Reclassifications(self._transport)
        self.webhooks = Webhooks(self._transport)
        self.keys = Keys(self._transport)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The server that `CXR_URL` names (this machine's, if none), with the key in `CXR_KEY`."""
        return cls(environment.get("CXR_URL") or "http://127.0.0.1:8080", environment.get("CXR_KEY"))

    def submit(
        self,
        files: Iterable[File],
        *,
        urgent: bool = False,
        synthetic: bool = False,
        idempotency_key: str | None = None,
        on_progress: Progress = lambda _sent, _total: None,
    ) -> Submitted:
        """Send the files as one batch, streaming.

        Where no answer came at last, call it again with the same `idempotency_key`: there will be one batch.
        """
        upload = Upload(files, on_progress)
        told = self._transport.json(
            "POST",
            "/v1/batches",
            params={"lane": "urgent" if urgent else "routine", "synthetic": synthetic},
            headers=upload.headers | ({KEY: idempotency_key} if idempotency_key else {}),
            body=upload.body,
            timeout=_RECEIVED_SECONDS,
        )
        return read(Submitted, told)

    def batch(self, batch_id: str) -> Batch:
        """Where it stands."""
        return self.ask(Batch, "GET", at(batch_id))

    def batches(self, *, limit: int = 20) -> list[Batch]:
        """The newest ones, newest first, and no more than `limit`."""
        told = self._transport.pages("/v1/batches", size=max(1, min(limit, _BATCHES)))
        return [read(Batch, one) for one in islice(told, max(0, limit))]

    def import_(
        self,
        paths: Sequence[str],
        *,
        urgent: bool = False,
        synthetic: bool = False,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Submit files and directories that lie below the server's import root, without sending a byte of them."""
        asked = {"import": list(paths), "lane": "urgent" if urgent else "routine", "synthetic": synthetic}
        headers = {KEY: idempotency_key} if idempotency_key else {}
        told = self._transport.json("POST", "/v1/batches", json=asked, headers=headers, timeout=_RECEIVED_SECONDS)
        return read(Submitted, told)

    def draft(self, *, total: int | None = None, urgent: bool = False, synthetic: bool = False) -> Draft:
        """Open a batch that is filled image by image; `total` keeps an incomplete one from being submitted."""
        asked = {"lane": "urgent" if urgent else "routine", "synthetic": synthetic} | (
            {"total": total} if total else {}
        )
        return self.draft_of(self.ask(Batch, "POST", "/v1/batches", json=asked).id)

    def draft_of(self, batch_id: str) -> Draft:
        """The draft that is open under this id."""
        return Draft(self._transport, batch_id)

    def follow(self, batch_id: str, *, seconds: float | None = None) -> Iterator[Batch]:
        """Yield the batch at once and whenever it changed, until it has ended; the last one yielded has.

        Raises StillOpen where it has not within `seconds`.
        """
        end = math.inf if seconds is None else time.monotonic() + seconds
        headers: dict[str, str] = {}
        while True:
            with self._transport.answered("GET", at(batch_id), headers=headers) as answer:
                batch = None if answer.status_code == _NOT_MODIFIED else read(Batch, read_json(answer))
                waited = "Preference-Applied" in answer.headers or not headers
                pause = retry_after_seconds(answer) or 1.0
            if batch:
                yield batch
                if not batch.open:
                    return
            left = end - time.monotonic()
            if left <= 0:
                raise StillOpen(batch_id, seconds or 0)
            if not waited:  # too many are waiting at the server already
                time.sleep(min(pause, left))
            headers = {"If-None-Match": answer.headers.get("ETag", ""), "Prefer": f"wait={_longest(left)}"}

    def wait(self, batch_id: str, *, seconds: float | None = None) -> Batch:
        """Return the batch when it has ended. Raises StillOpen where it has not within `seconds`."""
        *_, ended = self.follow(batch_id, seconds=seconds)
        return ended

    def images(self, batch_id: str, *, state: str | None = None) -> Iterator[Image]:
        """Every image of the batch, in the order of submission, page by page."""
        return self.pages(Image, f"{at(batch_id)}/images", {"state": state})

    def image(self, batch_id: str, custom_id: str) -> Image:
        return self.ask(Image, "GET", f"{at(batch_id)}/images/{quote(custom_id, safe='')}")

    def export(self, batch_id: str, form: str = "csv", *, partial: bool = False) -> Iterator[bytes]:
        """Yield the batch's results as `csv`, `ndjson` or `json`, piece by piece."""
        path, params = f"{at(batch_id)}/results.{quote(form)}", {"partial": partial}
        with self._transport.answered("GET", path, params=params) as answer:
            yield from answer.iter_bytes()

    def results(
        self,
        *,
        accession: str | None = None,
        model: str | None = None,
        label: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Result]:
        """Search the results of all batches, newest first, page by page. The times need a zone."""
        params = {"accession": accession, "model": model, "label": label}
        params["from"], params["to"] = (moment.isoformat() if moment else None for moment in (since, until))
        return self.pages(Result, "/v1/results", params)

    def result(self, result_id: str) -> Result:
        return self.ask(Result, "GET", f"/v1/results/{quote(result_id, safe='')}")

    def heatmap(self, result_id: str, *, seconds: float = 120.0) -> bytes:
        """Where the model looked, as PNG, once a worker has drawn it. Raises StillOpen where none has within `seconds`."""
        return heatmaps.drawn(self._transport, result_id, seconds)

    def verify(self, result_id: str, *, seconds: float = 120.0) -> Verification:
        """The result, computed again by a worker and compared. Raises StillOpen where none did within `seconds`."""
        return verifications.made(self._transport, result_id, seconds)

    def history(self, result_id: str) -> History:
        """The life of one result, from its submission to the last look at it."""
        return self.ask(History, "GET", f"/v1/results/{quote(result_id, safe='')}/history")

    def cancel(self, batch_id: str) -> Batch:
        """Stop what has not begun."""
        return self.ask(Batch, "POST", f"{at(batch_id)}/cancel")

    def retry(self, batch_id: str) -> Batch:
        """Queue again what was quarantined, cancelled or expired."""
        return self.ask(Batch, "POST", f"{at(batch_id)}/retry")

    def purge(self, batch_id: str) -> Batch:
        """Remove the batch's images; results and audit stay."""
        return self.ask(Batch, "DELETE", at(batch_id))

    def label(self, rows: Sequence[Mapping[str, str]]) -> Labelled:
        """Give ground truth; the answer has one row for each, kept or refused."""
        return self.ask(Labelled, "POST", "/v1/labels", json={"labels": list(rows)})

    def label_csv(self, text: str) -> Labelled:
        """The same from CSV, whose first line names the columns."""
        headers = {"Content-Type": "text/csv"}
        return self.ask(Labelled, "POST", "/v1/labels", body=lambda: iter([text.encode()]), headers=headers)

    def labels(self, *, accession: str | None = None, image_sha256: str | None = None) -> Iterator[Label]:
        """The labels that were given, newest first."""
        return self.pages(Label, "/v1/labels", {"accession": accession, "image_sha256": image_sha256})

    def audit(
        self,
        *,
        chain: str = "own",
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[AuditEvent]:
        """The audit of the hospital, or of the `installation`, oldest row first; reading it leaves a row too. The times need a zone."""
        params = {"chain": chain, "actor": actor, "action": action, "subject": subject}
        params["from"], params["to"] = (moment.isoformat() if moment else None for moment in (since, until))
        return self.pages(AuditEvent, "/v1/audit", params)

    def audit_end(self, *, chain: str = "own") -> AuditEnd:
        """Where that audit ends: read it up to here, and compute every hash again."""
        return self.ask(AuditEnd, "GET", "/v1/audit/head", params={"chain": chain})

    def limits(self) -> Limits:
        return self.ask(Limits, "GET", "/v1/limits")

    def ready(self) -> Ready:
        """Whether the server takes images; one that says no is an answer too."""
        with self._transport.answered("GET", "/readyz", answers={503}) as answer:
            told, date = read_json(answer), answer.headers.get("Date")
        ready = read(Ready, told)
        return ready.model_copy(update={"date": parsedate_to_datetime(date)}) if date else ready

    def ask(self, kind: type[Kind], method: str, path: str, **request: Any) -> Kind:
        """Any other call: what it answers, as `kind`. `request` is what httpx takes: params, json, headers."""
        return read(kind, self._transport.json(method, path, **request))

    def pages(self, kind: type[Kind], path: str, params: Mapping[str, str | None]) -> Iterator[Kind]:
        """Every entry of any call that answers in pages."""
        given = {name: value for name, value in params.items() if value is not None}
        return (read(kind, one) for one in self._transport.pages(path, given, size=_PAGE))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()


def _longest(left: float) -> int:
    return max(1, math.ceil(min(left, _WAIT_SECONDS)))
