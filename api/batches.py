"""Follow a batch, fetch its results, stop it, run it again, purge it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from apiflask import APIBlueprint
from flask import Response, current_app, request
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api import results
from api.problems import Problem
from api.schemas import BatchAnswer, BatchList, ImageAnswer, ImageList, ResultList
from api.wiring import parts
from db import batches, ending, purging
from db.batches import Progress
from db.tables import Batch, Lane

blueprint = APIBlueprint("batches", __name__, url_prefix="/v1/batches", tag="Batches")

POLL_SECONDS = "2"
_JSON = "application/json"
_MOST_IMAGES = 1 << 31


class Query(BaseModel, extra="forbid"):
    """A misspelt option must not pass for the default."""


class ListQuery(Query):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: str | None = Field(default=None, pattern="^batch_[0-9a-f]+$", description="Id of the last batch seen")


class ImagesQuery(Query):
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: Annotated[int, Field(ge=0, lt=_MOST_IMAGES)] = 0


class ResultsQuery(Query):
    partial: bool = Field(default=False, description="Answer before the batch is finished")


@blueprint.get("")
@blueprint.input(ListQuery, location="query", arg_name="query")
@blueprint.output(BatchList)
@blueprint.doc(summary="List batches, newest first")
def index(query: ListQuery) -> BatchList:
    with parts().database.read() as session:
        found = batches.newest(session, limit=query.limit + 1, after=query.after)
    page = found[: query.limit]
    more = len(found) > query.limit
    return BatchList(data=[BatchAnswer.of(one) for one in page], has_more=more, after=page[-1].id if more else None)


@blueprint.get("/<batch_id>")
@blueprint.output(BatchAnswer)
@blueprint.doc(summary="State and live counts of a batch")
def status(batch_id: str) -> tuple[BatchAnswer, int, dict[str, str]]:
    progress = _progress(batch_id)
    headers = {"Retry-After": POLL_SECONDS} if progress.open else {}
    return BatchAnswer.of(progress), 200, headers


@blueprint.get("/<batch_id>/images")
@blueprint.input(ImagesQuery, location="query", arg_name="query")
@blueprint.output(ImageList)
@blueprint.doc(summary="The batch's images where they stand, in the order of submission")
def images(batch_id: str, query: ImagesQuery) -> ImageList:
    _progress(batch_id)
    with parts().database.read() as session:
        found = list(batches.lines(session, batch_id, after=query.after, limit=query.limit + 1))
    more = len(found) > query.limit
    page = [ImageAnswer.of(line) for line in found[: query.limit]]
    return ImageList(data=page, has_more=more, after=query.after + query.limit if more else None)


@blueprint.get("/<batch_id>/results")
@blueprint.input(ResultsQuery, location="query", arg_name="query")
@blueprint.output(ResultList)
@blueprint.doc(summary="Results as JSON, or as CSV with Accept: text/csv")
def results_by_accept(batch_id: str, query: ResultsQuery) -> Response:
    best = request.accept_mimetypes.best_match(["application/json", "text/csv"]) if request.accept_mimetypes else _JSON
    if best is None:
        raise Problem(406, "not_acceptable", "Results come as application/json or text/csv.")
    return _results(batch_id, best, partial=query.partial)


@blueprint.get("/<batch_id>/results.csv")
@blueprint.input(ResultsQuery, location="query", arg_name="query")
@blueprint.doc(summary="Results as CSV")
def results_csv(batch_id: str, query: ResultsQuery) -> Response:
    return _results(batch_id, "text/csv", partial=query.partial)


@blueprint.get("/<batch_id>/results.json")
@blueprint.input(ResultsQuery, location="query", arg_name="query")
@blueprint.output(ResultList)
@blueprint.doc(summary="Results as JSON")
def results_json(batch_id: str, query: ResultsQuery) -> Response:
    return _results(batch_id, "application/json", partial=query.partial)


def _results(batch_id: str, media_type: str, *, partial: bool) -> Response:
    progress = _progress(batch_id)
    if progress.open and not partial:
        detail = f"{progress.done} of {progress.total} images are done; wait, or ask for partial results."
        raise Problem(409, "not_finished", detail, retryable=True)
    database = parts().database
    body = results.as_csv(database, batch_id) if media_type == "text/csv" else results.as_json(database, progress)
    return Response(body, content_type=f"{media_type}; charset=utf-8", headers={"Cache-Control": "no-store"})


@blueprint.post("/<batch_id>/cancel")
@blueprint.output(BatchAnswer, status_code=202)
@blueprint.doc(summary="Stop what has not begun; what is done is kept", responses=[404, 409])
def cancel(batch_id: str) -> BatchAnswer:
    with _changing(batch_id) as (session, batch):
        try:
            ending.cancel(session, batch, actor="api")
        except ending.BatchClosed as error:
            raise Problem(409, "batch_closed", "The batch has ended; there is nothing left to cancel.") from error
    current_app.logger.info("cancelled %s", batch_id)
    return BatchAnswer.of(_progress(batch_id))


@blueprint.post("/<batch_id>/retry")
@blueprint.output(BatchAnswer, status_code=202)
@blueprint.doc(summary="Queue again what was quarantined, cancelled or expired", responses=[404, 409, 410])
def retry(batch_id: str) -> BatchAnswer:
    own = parts()
    with _changing(batch_id) as (session, batch):
        lane = Lane(batch.lane)
        try:
            moved = ending.retry(session, batch, actor="api", expire_seconds=own.settings.expire_hours * 3600)
        except ending.BatchPurged as error:
            raise Problem(410, "batch_purged", "The batch's images were purged; submit them again.") from error
        except ending.NothingToRetry as error:
            words = "Every image has its result or was rejected, and a rejected one would be rejected again."
            raise Problem(409, "nothing_to_retry", words) from error
    own.tickets.ring(lane, moved)
    current_app.logger.info("retried %d images of %s", moved, batch_id)
    return BatchAnswer.of(_progress(batch_id))


@blueprint.delete("/<batch_id>")
@blueprint.output(BatchAnswer, status_code=202)
@blueprint.doc(summary="Purge the batch's pixels; results and audit stay", responses=[404, 409])
def purge(batch_id: str) -> BatchAnswer:
    with _changing(batch_id) as (session, batch):
        purging.mark(session, batch, actor="api")
    removed = purging.remove(parts().database, parts().blobs, batch_id)
    current_app.logger.info("purged %s: %d files", batch_id, removed)
    return BatchAnswer.of(_progress(batch_id))


@contextmanager
def _changing(batch_id: str) -> Iterator[tuple[Session, Batch]]:
    """One transaction that holds the batch."""
    with parts().database.write() as session:
        batch = batches.find(session, batch_id) if batch_id.isprintable() else None
        if batch is None:
            raise _unknown()
        try:
            yield session, batch
        except ending.BatchOpen as error:
            words = "The batch has not ended: wait for it, or cancel it."
            raise Problem(409, "batch_open", words, retryable=True) from error


def _progress(batch_id: str) -> Progress:
    with parts().database.read() as session:
        progress = batches.progress(session, batch_id) if batch_id.isprintable() else None
    if progress is None:
        raise _unknown()
    return progress


def _unknown() -> Problem:
    return Problem(404, "batch_unknown", "There is no batch of this id; GET /v1/batches lists them.")
