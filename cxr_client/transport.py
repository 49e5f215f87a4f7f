"""Requests to one server: the key in its header, problems as exceptions, and what may pass is tried again."""

import random
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import httpx

from cxr_client.answers import data
from cxr_client.errors import AnswerUnknown, ClientError, NotAllowed, ServerAway, ServerRefused
from cxr_client.version import VERSION

OnRetry: TypeAlias = Callable[[ClientError, float], object]
"""Hears of the failure, and after how many seconds the request is sent again."""

CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 60.0
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_LONGEST_PAUSE_SECONDS = 8.0
_CONFLICT = 409
KEY: Final = "Idempotency-Key"
_IN_FLIGHT = "idempotency_key_in_flight"  # the one conflict that goes away by itself
_DENIED = (401, 403)
_NOT_HERE = (408, 425, 429, 500, 502, 503, 504)  # from a proxy in between, which speaks no problem+json


class Transport:
    """Sends requests, again where that is safe and may help, until the pauses add up to `patience_seconds`."""

    def __init__(self, url: str, key: str | None, *, patience_seconds: float, on_retry: OnRetry) -> None:
        self.url = url
        self._patience_seconds = patience_seconds
        self._on_retry = on_retry
        headers = {"User-Agent": f"cxr-client/{VERSION}", "Accept-Encoding": "identity"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        near = urlsplit(url).hostname in _LOOPBACK  # no proxy stands between
        timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=not near)

    def close(self) -> None:
        self._http.close()

    def json(self, method: str, path: str, **request: Any) -> Any:
        """The answer's JSON. Raises ClientError."""
        with self.answered(method, path, **request) as answer:
            return read_json(answer)

    @contextmanager
    def answered(
        self,
        method: str,
        path: str,
        *,
        body: Callable[[], Iterator[bytes]] | None = None,
        answers: Collection[int] = (),
        **request: Any,
    ) -> Iterator[httpx.Response]:
        """The answer, its body not yet read; a status in `answers` is none of the errors.

        Raises ClientError. An answer that began is not asked for again.
        """
        if method == "POST":  # so that it happens once, however often it is sent
            request["headers"] = {KEY: secrets.token_hex(16)} | request.get("headers", {})

        def send() -> httpx.Response:
            content = body() if body else None
            return self._sent(self._http.build_request(method, path, content=content, **request), answers)

        answer = self._persisted(send)
        try:
            yield answer
        except httpx.TransportError as error:
            raise self._away(error) from error
        finally:
            answer.close()

    def pages(self, path: str, params: Mapping[str, str] | None = None, *, size: int) -> Iterator[Any]:
        """Every entry of a call that answers in pages, `size` of them at a time."""
        given = {**(params or {}), "limit": str(size)}
        while True:
            told = self.json("GET", path, params=given)
            yield from data(told)
            if not told.get("has_more"):
                return
            given["after"] = str(told["after"])

    def _persisted(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        pause, waited = 0.5, 0.0
        while True:
            try:
                return send()
            except ClientError as error:
                asked = error.retry_after_seconds if isinstance(error, ServerRefused) else None
                seconds = asked or pause * random.uniform(0.5, 1)  # noqa: S311 - so that clients do not come together
                if not _passes(error) or waited + seconds > self._patience_seconds:
                    raise
                self._on_retry(error, seconds)
                time.sleep(seconds)
                waited += seconds
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _sent(self, request: httpx.Request, answers: Collection[int]) -> httpx.Response:
        try:
            answer = self._http.send(request, stream=True)
            if not answer.is_success and answer.status_code not in {*answers, 304}:
                answer.read()
                raise _refusal(answer)
        except httpx.TransportError as error:
            raise self._away(error) from error
        return answer

    def _away(self, error: httpx.TransportError) -> ServerAway:
        return ServerAway(f"no answer from {self.url} ({type(error).__name__}): is it running?")


def read_json(answer: httpx.Response) -> Any:
    """What it says, or AnswerUnknown."""
    answer.read()
    try:
        return answer.json()
    except ValueError as error:
        raise AnswerUnknown(f"{answer.request.url} gave no JSON: is that a server of cxr-batch?") from error


def retry_after_seconds(answer: httpx.Response) -> float | None:
    """What Retry-After asks for; its other form, a date, is not used by this API."""
    given = answer.headers.get("Retry-After", "")
    return float(given) if given.isdecimal() else None


def _passes(error: ClientError) -> bool:
    """Whether the same request may succeed soon: other conflicts wait for a batch, and that is the caller's to do."""
    if isinstance(error, ServerRefused) and error.status == _CONFLICT:
        return error.code == _IN_FLIGHT
    return error.retryable


def _refusal(answer: httpx.Response) -> ServerRefused:
    kind = NotAllowed if answer.status_code in _DENIED else ServerRefused
    pause = retry_after_seconds(answer)
    try:
        told = answer.json()
        known = {"code": told["code"], "detail": told["detail"]}
        return kind(answer.status_code, told | known, pause, retryable=bool(told["retryable"]))
    except (ValueError, KeyError, TypeError):
        problem = {"code": f"http_{answer.status_code}", "detail": answer.text[:200] or answer.reason_phrase}
        return kind(answer.status_code, problem, pause, retryable=answer.status_code in _NOT_HERE)
