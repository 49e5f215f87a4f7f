"""A POST under an `Idempotency-Key` happens once: the key is reserved in the transaction of what the request does.

`guard` puts this around every POST of the application, so a view need not think of it. A view that streams its body
says with `said` what it read, as soon as it knows.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, TypeAlias

from flask import Flask, Response, abort, current_app, g, request
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from api import bodies
from api.problems import Problem
from api.wiring import parts
from db import idempotency
from db.idempotency import Earlier, KeyReused

View: TypeAlias = Callable[..., Any]
Rebuilt: TypeAlias = Callable[[str], Response]

HEADER: Final = "Idempotency-Key"
LONGEST_KEY: Final = 255
PATTERN: Final = f"^[!-~]{{1,{LONGEST_KEY}}}$"
_STREAMED: Final = frozenset({"multipart/form-data", "application/zip"})
_REFUSED: Final = range(400, 500)
_in_flight: set[tuple[str, str]] = set()
_in_flight_lock = threading.Lock()


@dataclass
class _Request:
    """The present request under its key; the key is reserved once `fingerprint` is known and something is stored."""

    key: str
    rebuilt: Rebuilt | None
    fingerprint: str | None = None
    batch_id: str | None = None
    secret: str | None = None
    reserved: bool = False


def guard(app: Flask) -> None:
    """Make every POST of the application repeatable."""
    for rule in app.url_map.iter_rules():
        if "POST" in (rule.methods or ()):
            app.view_functions[rule.endpoint] = _guarded(app.view_functions[rule.endpoint])


def streaming(rebuilt: Rebuilt) -> Callable[[View], View]:
    """Mark a view that reads files from its body as they come, and calls `said` itself.

    `rebuilt` makes its answer from the batch that it made, where the server ended before the answer was kept.
    """

    def mark(view: View) -> View:
        view.rebuilt = rebuilt  # type: ignore[attr-defined]
        return view

    return mark


def said(*what: Any) -> None:
    """Tell what a streamed request said; ends the request with the earlier answer if it was said before."""
    mine: _Request | None = g.get("once")
    if mine is not None:
        _look(mine, idempotency.fingerprint(request.path, *what))


def about(batch_id: str) -> None:
    """Name the batch that this request makes, before its transaction ends."""
    if g.get("once"):
        g.once.batch_id = batch_id


def keep_without(field: str) -> None:
    """This field of the answer is a secret: it is not kept, and null in the answer to the same request again."""
    if g.get("once"):
        g.once.secret = field


def _guarded(view: View) -> View:
    rebuilt: Rebuilt | None = getattr(view, "rebuilt", None)

    @wraps(view)
    def answered(**arguments: Any) -> Any:
        key = _key() if request.method == "POST" else None
        if not rebuilt:
            bodies.whole()  # or nobody reads it within its limit
        if key is None:
            return view(**arguments)
        with _alone(parts().tenant, key):
            g.once = mine = _Request(key, rebuilt)
            try:
                if not (rebuilt and request.mimetype in _STREAMED):
                    said(request.query_string.decode(errors="replace"), bodies.whole().hex())
                response: Response = current_app.make_response(view(**arguments))
            except Problem as problem:
                _forget(mine, problem.status)
                raise
            _keep(mine, response)
            return response

    return answered


def _key() -> str | None:
    key = request.headers.get(HEADER)
    if key is not None and not re.fullmatch(PATTERN, key):
        words = f"{HEADER} needs 1 to {LONGEST_KEY} visible ASCII characters, without blanks."
        raise Problem(400, "idempotency_key_invalid", words)
    return key


@contextmanager
def _alone(tenant: str, key: str) -> Iterator[None]:
    """Refuse a second request while the first of its key is answered; between servers the database decides."""
    with _in_flight_lock:
        if (tenant, key) in _in_flight:
            raise _in_flight_problem()
        _in_flight.add((tenant, key))
    try:
        yield
    finally:
        with _in_flight_lock:
            _in_flight.discard((tenant, key))


def _look(mine: _Request, fingerprint: str) -> None:
    mine.fingerprint = fingerprint
    try:
        with parts().database.read() as session:
            earlier = idempotency.earlier(session, mine.key, fingerprint)
    except KeyReused as error:
        words = "This key was used for another request; a new request needs a new key."
        raise Problem(422, "idempotency_key_reused", words) from error
    if earlier is None:
        return
    mine.fingerprint = None  # nothing is to be reserved any more
    abort(_again(earlier, mine.rebuilt))


def _again(earlier: Earlier, rebuilt: Rebuilt | None) -> Response:
    if earlier.status is None and earlier.batch_id and rebuilt:
        response = rebuilt(earlier.batch_id)
    elif earlier.status is None and earlier.fresh:
        raise _in_flight_problem()
    elif earlier.status is None:
        words = "The request of this key was carried out, but its answer was not kept; look at what it did."
        raise Problem(409, "answer_not_kept", words)
    else:
        response = Response(earlier.body, earlier.status, content_type="application/json")
        if earlier.location:
            response.headers["Location"] = earlier.location
    response.headers["Idempotent-Replayed"] = "true"
    return response


@event.listens_for(Session, "before_commit")
def _reserve(session: Session) -> None:
    """With the first thing that the request stores, its key is stored too: both or neither."""
    mine: _Request | None = g.get("once") if g else None
    if mine is None or mine.fingerprint is None or mine.reserved:
        return
    tenant = parts().tenant
    if not tenant:
        return  # nobody has signed in yet
    mine.reserved = True
    try:
        idempotency.reserve(session, mine.key, mine.fingerprint, tenant=tenant, batch_id=mine.batch_id)
    except IntegrityError as error:
        mine.reserved = False  # it is another server's
        raise _in_flight_problem() from error


def _keep(mine: _Request, response: Response) -> None:
    """Keep the answer for the next time; without it, the key only says that the request was carried out."""
    g.pop("once", None)
    if not mine.reserved or response.is_streamed:
        return
    location, body = response.headers.get("Location"), response.get_data(as_text=True)
    if mine.secret and response.status_code not in _REFUSED:
        body = json.dumps(json.loads(body) | {mine.secret: None})
    try:
        with parts().database.write() as session:
            idempotency.answer(session, mine.key, status=response.status_code, location=location, body=body)
    except DBAPIError as error:
        current_app.logger.warning("an answer was not kept for its key: %s", type(error.orig).__name__)


def _forget(mine: _Request, status: int) -> None:
    """What was refused may be sent again under its key; after a failure nobody knows how much was done."""
    g.pop("once", None)
    if mine.reserved and status in _REFUSED:
        with parts().database.write() as session:
            idempotency.release(session, mine.key)


def _in_flight_problem() -> Problem:
    words = "A request with this key is being answered; wait for its answer, then ask again."
    return Problem(409, "idempotency_key_in_flight", words, retryable=True)
