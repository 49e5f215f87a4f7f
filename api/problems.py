"""Errors as people and programs see them: RFC 9457 problem+json with a stable code."""

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from apiflask import APIFlask, HTTPError
from flask import Response, current_app, json, request
from sqlalchemy.exc import DBAPIError, OperationalError
from werkzeug.exceptions import MethodNotAllowed

from db.database import is_full

_TYPE = "application/problem+json"

_AGAIN = {"Retry-After": "30"}
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 429: _AGAIN, 503: _AGAIN, 507: _AGAIN}
_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 422: "invalid_request"}


class Problem(Exception):
    """A request that cannot be answered: `code` is stable, `detail` says what was wrong and what to do."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retryable: bool = False,
        retry_after: int | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retryable = retryable
        self.retry_after = retry_after
        self.more = more


def register(app: APIFlask) -> None:
    app.register_error_handler(Problem, answer)
    app.register_error_handler(OperationalError, _from_database)
    app.register_error_handler(Exception, _from_bug)
    app.error_processor(_from_http)


def answer(problem: Problem) -> Response:
    """The problem as it goes out."""
    response = _response(
        problem.status, _body(problem.status, problem.code, problem.detail, retryable=problem.retryable, **problem.more)
    )
    response.headers.extend(_HEADERS.get(problem.status, {}))
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(problem.retry_after)
    return response


def _from_http(error: HTTPError) -> Response:
    """Flask's own errors, and queries that APIFlask found wrong: `detail` then names the fields."""
    found = error.detail if isinstance(error.detail, dict) else {}
    status, code = error.status_code, _CODES.get(error.status_code, "error")
    if "query" in found:
        found, status, code = found["query"], 400, "invalid_query"
    words = [f"{name}: {', '.join(map(str, told))}" for name, told in found.items()] or [str(error.message)]
    response = _response(status, _body(status, code, "; ".join(words)))
    if isinstance(request.routing_exception, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(request.routing_exception.valid_methods or ()))
    return response


def disk_full() -> Problem:
    return Problem(507, "disk_full", "The server's disk is full; tell its operator.", retryable=True)


@contextmanager
def disk_watched() -> Iterator[None]:
    """Say it when the disk of the images is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise disk_full() from error


def _from_database(error: OperationalError) -> Response:
    current_app.logger.error("the database failed: %s", error.orig)
    if is_full(error):
        return answer(disk_full())
    return answer(Problem(503, "database_away", "The server's database does not answer; try again.", retryable=True))


def _from_bug(error: Exception) -> Response:
    # Not the path: a label stands in it, and may be a name.
    current_app.logger.error("%s %s failed\n%s", request.method, request.url_rule, "".join(_way(error)))
    return _response(500, _body(500, "internal_error", "The server failed; the log says why.", retryable=True))


def _way(error: BaseException) -> Iterator[str]:
    """Where it came from, back to its first cause; not its words, which may quote what was sent or is stored."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _way(before)
    said = str(error.orig) if isinstance(error, DBAPIError) else error.strerror if isinstance(error, OSError) else ""
    yield from ("Traceback (most recent call last):\n", *traceback.format_tb(error.__traceback__))
    yield f"{type(error).__name__}: {said}\n"


def _body(status: int, code: str, detail: str, *, retryable: bool = False, **more: Any) -> dict[str, Any]:
    title = code.replace("_", " ").capitalize()
    return {
        "type": "about:blank",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
        "retryable": retryable,
    } | more


def _response(status: int, body: dict[str, Any]) -> Response:
    return Response(json.dumps(body), status, content_type=_TYPE)
