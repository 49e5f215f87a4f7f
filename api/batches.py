"""Submit a batch, follow it, fetch its results."""

import errno
from typing import Annotated

from apiflask import APIBlueprint
from flask import Response, current_app, request, url_for
from pydantic import BaseModel, Field

from api import results, uploads
from api.problems import Problem
from api.schemas import BatchAnswer, BatchList, ImageAnswer, ImageList, ResultList
from api.wiring import parts
from db import batches
from db.batches import Progress
from db.registry import NoChampion
from db.tables import BatchState, Lane

blueprint = APIBlueprint("batches", __name__, url_prefix="/v1/batches", tag="Batches")

_POLL_SECONDS = "2"
_JSON = "application/json"
_MOST_IMAGES = 1 << 31


class Query(BaseModel, extra="forbid"):
    """A misspelt option must not pass for the default."""


class SubmitQuery(Query):
    lane: Lane = Lane.ROUTINE
    synthetic: bool = Field(default=False, description="The images were made by code; shown wherever they are")


class ListQuery(Query):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: str | None = Field(default=None, pattern="^batch_[0-9a-f]+$", description="Id of the last batch seen")


class ImagesQuery(Query):
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: Annotated[int, Field(ge=0, lt=_MOST_IMAGES)] = 0


class ResultsQuery(Query):
    partial: bool = Field(default=False, description="Answer before the batch is finished")


@blueprint.post("")
@blueprint.input(SubmitQuery, location="query", arg_name="query")
@blueprint.output(BatchAnswer, status_code=202)
@blueprint.doc(summary="Submit images as one batch: many files, or one zip")
def submit(query: SubmitQuery) -> tuple[BatchAnswer, int, dict[str, str]]:
    own = parts()
    try:
        with own.blobs.delivery() as delivery:
            items = uploads.receive(request, own.blobs, delivery, own.settings)
            delivery.settle()
            with own.database.write() as session:
                batch_id = batches.add(session, items, lane=query.lane, actor="api", synthetic=query.synthetic).id
    except NoChampion as error:
        raise Problem(503, "no_model", str(error), retryable=True) from error
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise Problem(507, "disk_full", "The server's disk is full; tell its operator.", retryable=True) from error
    own.tickets.ring(query.lane, len(items))
    current_app.logger.info("accepted %s with %d images", batch_id, len(items))
    headers = {"Location": url_for("batches.status", batch_id=batch_id), "Retry-After": _POLL_SECONDS}
    return BatchAnswer.of(_progress(batch_id)), 202, headers


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
    headers = {"Retry-After": _POLL_SECONDS} if progress.state == BatchState.PROCESSING else {}
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
    if progress.state == BatchState.PROCESSING and not partial:
        detail = f"{progress.done} of {progress.total} images are done; wait, or ask for partial results."
        raise Problem(409, "not_finished", detail, retryable=True)
    database = parts().database
    body = results.as_csv(database, batch_id) if media_type == "text/csv" else results.as_json(database, progress)
    return Response(body, content_type=f"{media_type}; charset=utf-8", headers={"Cache-Control": "no-store"})


def _progress(batch_id: str) -> Progress:
    with parts().database.read() as session:
        progress = batches.progress(session, batch_id) if batch_id.isprintable() else None
    if progress is None:
        raise Problem(404, "batch_unknown", "There is no batch of this id; GET /v1/batches lists them.")
    return progress
