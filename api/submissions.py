"""Take a batch in: 202 once it is on the disk and in the database."""

import errno
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from apiflask import APIBlueprint
from flask import current_app, request, url_for
from pydantic import Field
from sqlalchemy.exc import IntegrityError

from api import uploads
from api.access import needs
from api.batches import POLL_SECONDS, Query
from api.problems import Problem, disk_full
from api.schemas import SubmittedAnswer
from api.wiring import Parts, parts, who
from db import batches, idempotency, purging
from db.batches import Item
from db.blobs import Delivery
from db.keys import Scope
from db.registry import NoChampion
from db.tables import Lane

blueprint = APIBlueprint("submissions", __name__, url_prefix="/v1/batches", tag="Batches")

_KEY = "Idempotency-Key"
_LONGEST_KEY = 255
_in_flight: set[tuple[str, str]] = set()
_in_flight_lock = threading.Lock()


class SubmitQuery(Query):
    lane: Lane = Lane.ROUTINE
    synthetic: bool = Field(default=False, description="The images were made by code; shown wherever they are")


@blueprint.post("")
@needs(Scope.SUBMIT)
@blueprint.input(SubmitQuery, location="query", arg_name="query")
@blueprint.output(SubmittedAnswer, status_code=202)
@blueprint.doc(summary="Submit images as one batch: many files, or one zip")
def submit(query: SubmitQuery) -> tuple[SubmittedAnswer, int, dict[str, str]]:
    own, key = parts(), _key()
    try:
        with _alone(own.tenant, key), own.blobs.delivery() as delivery:
            items = uploads.receive(request, own.blobs, delivery, own.settings)
            batch_id = _earlier(own, key, items, query) or _kept(own, delivery, key, items, query)
    except NoChampion as error:
        raise Problem(503, "no_model", str(error), retryable=True) from error
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise disk_full() from error
    own.tickets.ring(query.lane, len(items))
    current_app.logger.info("accepted %s with %d images", batch_id, len(items))
    headers = {"Location": url_for("batches.status", batch_id=batch_id), "Retry-After": POLL_SECONDS}
    with own.database.read() as session:
        progress = batches.progress(session, batch_id)
    if progress is None:
        raise AssertionError(batch_id)
    return SubmittedAnswer.to(items, progress), 202, headers


def _key() -> str | None:
    key = request.headers.get(_KEY)
    if key is not None and not (0 < len(key) <= _LONGEST_KEY and key.isascii() and key.isprintable()):
        raise Problem(400, "idempotency_key_invalid", f"{_KEY} needs 1 to {_LONGEST_KEY} printable ASCII characters.")
    return key


@contextmanager
def _alone(tenant: str, key: str | None) -> Iterator[None]:
    """Refuse a second request while the first of its key is read; between servers the database decides."""
    if key is None:
        yield
        return
    with _in_flight_lock:
        if (tenant, key) in _in_flight:
            raise _in_flight_problem()
        _in_flight.add((tenant, key))
    try:
        yield
    finally:
        with _in_flight_lock:
            _in_flight.discard((tenant, key))


def _earlier(own: Parts, key: str | None, items: Sequence[Item], query: SubmitQuery) -> str | None:
    """The batch that this very submission made before, or None."""
    if key is None:
        return None
    try:
        with own.database.read() as session:
            return idempotency.earlier(session, key, _fingerprint(items, query))
    except idempotency.KeyReused as error:
        words = "This key was used for another submission; a new submission needs a new key."
        raise Problem(422, "idempotency_key_reused", words) from error


def _kept(own: Parts, delivery: Delivery, key: str | None, items: Sequence[Item], query: SubmitQuery) -> str:
    """Bring the images to the disk, then the batch to the database, and return its id."""
    delivery.settle()
    seconds = own.settings.expire_hours * 3600
    try:
        with own.database.write() as session:
            batch_id = batches.add(
                session, items, lane=query.lane, actor=who(), synthetic=query.synthetic, expire_seconds=seconds
            ).id
            if key:
                idempotency.keep(session, key, _fingerprint(items, query), batch_id)
            if purging.missing(own.blobs, (item.sha256 for item in items if not item.code)):
                words = "An image was purged with another batch at this very moment; send the request again."
                raise Problem(503, "purged_meanwhile", words, retryable=True)
    except IntegrityError as error:
        if key is None:
            raise
        raise _in_flight_problem() from error
    return batch_id


def _fingerprint(items: Sequence[Item], query: SubmitQuery) -> str:
    return idempotency.fingerprint(items, lane=query.lane, synthetic=query.synthetic)


def _in_flight_problem() -> Problem:
    words = "A request with this key is being answered; wait for its answer, then ask again."
    return Problem(409, "idempotency_key_in_flight", words, retryable=True)
