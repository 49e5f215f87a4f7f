"""A client for the HTTP API; the command line is built on it."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

_CHUNK = 256 * 1024
_POLL_SECONDS = 0.25
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_PATIENCE_SECONDS = 60.0

Batch = dict[str, Any]


class ServerRefused(Exception):
    """The server answered with a problem; the message is its own words."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{detail} ({code})")
        self.code = code


class ServerAway(Exception):
    """Nothing answers at the address."""


class Client:
    """Talks to one server. Raises ServerRefused and ServerAway."""

    def __init__(self, url: str, *, key: str | None) -> None:
        self._url = url
        near = httpx.URL(url).host in _LOOPBACK  # no proxy stands between
        timeout = httpx.Timeout(_PATIENCE_SECONDS, read=600)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, timeout=timeout, trust_env=not near, headers=headers)

    def submit(
        self,
        files: Sequence[tuple[str, Path]],
        *,
        urgent: bool = False,
        synthetic: bool = False,
        key: str | None = None,
        sent: Callable[[int], None] = lambda _: None,
    ) -> Batch:
        """Send (custom_id, path) pairs as one batch, streaming; `sent` hears of every chunk's bytes.

        Where no answer came, send the same again with the same `key`: there will be one batch.
        """
        boundary = secrets.token_hex(16)
        parts = [(_part_header(boundary, name), path) for name, path in files]
        headers = {"Idempotency-Key": key or secrets.token_hex(16)}
        length = sum(len(header) + path.stat().st_size + 2 for header, path in parts) + len(boundary) + 6
        return self._json(
            "POST",
            "/v1/batches",
            params={"lane": "urgent" if urgent else "routine", "synthetic": synthetic},
            content=_body(parts, boundary, sent),
            headers=headers
            | {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(length)},
        )

    def cancel(self, batch_id: str) -> Batch:
        """Stop what has not begun."""
        return self._json("POST", f"/v1/batches/{batch_id}/cancel")

    def retry(self, batch_id: str) -> Batch:
        """Queue again what was quarantined, cancelled or expired."""
        return self._json("POST", f"/v1/batches/{batch_id}/retry")

    def purge(self, batch_id: str) -> Batch:
        """Remove the batch's images; results and audit stay."""
        return self._json("DELETE", f"/v1/batches/{batch_id}")

    def batch(self, batch_id: str) -> Batch:
        return self._json("GET", f"/v1/batches/{batch_id}")

    def batches(self, *, limit: int = 20) -> list[Batch]:
        found: list[Batch] = self._json("GET", "/v1/batches", params={"limit": limit})["data"]
        return found

    def follow(self, batch_id: str) -> Iterator[Batch]:
        """Yield the batch again and again until it is finished; the last one yielded is."""
        while True:
            batch = self.batch(batch_id)
            yield batch
            if batch["state"] not in {"processing", "cancelling", "receiving"}:
                return
            time.sleep(_POLL_SECONDS)

    def images(self, batch_id: str, *, limit: int = 1000) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._json("GET", f"/v1/batches/{batch_id}/images", params={"limit": limit})[
            "data"
        ]
        return found

    def results_csv(self, batch_id: str, *, partial: bool = False) -> Iterator[str]:
        """Yield the results as CSV, piece by piece."""
        with self._answered("GET", f"/v1/batches/{batch_id}/results.csv", params={"partial": partial}) as answer:
            yield from answer.iter_text()

    def label(self, rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """Give ground truth; the answer has one row for each, kept or refused."""
        return self._json("POST", "/v1/labels", json={"labels": rows})

    def label_csv(self, text: str) -> dict[str, Any]:
        """The same from CSV, whose first line names the columns."""
        return self._json("POST", "/v1/labels", content=text.encode(), headers={"Content-Type": "text/csv"})

    def models(self) -> dict[str, Any]:
        """The registered versions, and the last change of champion that was asked for."""
        return self._json("GET", "/v1/models")

    def promote(self, version: str, *, who: str, reason: str) -> dict[str, Any]:
        """Let the version become champion once a worker has tried it."""
        return self._json("POST", f"/v1/models/{version}/promote", json={"who": who, "reason": reason})

    def roll_back(self, version: str, *, who: str, reason: str) -> dict[str, Any]:
        """Make the one champion again that `version` replaced."""
        return self._json("POST", f"/v1/models/{version}/rollback", json={"who": who, "reason": reason})

    def retrain(self) -> dict[str, Any]:
        """Ask for a retraining run."""
        return self._json("POST", "/v1/retraining-runs")

    def retraining_run(self, run_id: str) -> dict[str, Any]:
        return self._json("GET", f"/v1/retraining-runs/{run_id}")

    def cancel_retraining(self, run_id: str) -> dict[str, Any]:
        """Stop the run after its present epoch."""
        return self._json("POST", f"/v1/retraining-runs/{run_id}/cancel")

    def ready(self) -> bool:
        try:
            return self._http.get("/readyz", timeout=5).is_success
        except httpx.TransportError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        with self._answered(method, path, **request) as answer:
            answer.read()
            told: dict[str, Any] = answer.json()
        return told

    def _answered(self, method: str, path: str, **request: Any) -> "_Answered":
        return _Answered(self._http.stream(method, path, **request), self._url)


class _Answered:
    """An answer as it streams in, turned into our exceptions where it is none."""

    def __init__(self, stream: Any, url: str) -> None:
        self._stream = stream
        self._url = url

    def __enter__(self) -> httpx.Response:
        try:
            answer: httpx.Response = self._stream.__enter__()
        except httpx.TransportError as error:
            words = f"no answer from {self._url}: is it running? Start one with `cxr up`."
            raise ServerAway(words) from error
        if answer.is_error:
            answer.read()
            self._stream.__exit__(None, None, None)
            raise _refusal(answer)
        return answer

    def __exit__(self, *error: object) -> None:
        self._stream.__exit__(*error)


def _refusal(answer: httpx.Response) -> ServerRefused:
    try:
        told = answer.json()
        return ServerRefused(told["code"], told["detail"])
    except (ValueError, KeyError):
        return ServerRefused(f"http_{answer.status_code}", answer.text[:200])


def _part_header(boundary: str, name: str) -> bytes:
    # RFC 7578: quotes and line breaks in a name are percent-encoded, everything else is UTF-8.
    escaped = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    lines = (f"--{boundary}", f'Content-Disposition: form-data; name="images"; filename="{escaped}"', "", "")
    return "\r\n".join(lines).encode()


def _body(parts: Sequence[tuple[bytes, Path]], boundary: str, sent: Callable[[int], None]) -> Iterator[bytes]:
    for header, path in parts:
        yield header
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
                sent(len(chunk))
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()
