"""Follow a batch, fetch its results, stop it, run it again, purge it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from apiflask import APIBlueprint
from flask import Response, current_app, request
from pydantic import BaseModel, Field, field_validator
from sqlalchemy.orm import Session

from api import polling, results
from api.access import needs
from api.problems import Problem
from api.schemas import BatchAnswer, BatchList, BatchStatus, ImageAnswer, ImageList, ResultList
from api.wiring import parts, who
from db import batches, ending, forecast, purging
from db.batches import Progress
from db.keys import Scope
from db.tables import OPEN, Batch, ImageState, Lane

blueprint = APIBlueprint("batches", __name__, url_prefix="/v1/batches", tag="Batches")

POLL_SECONDS = "2"
_TYPES = {"json": "application/json", "ndjson": "application/x-ndjson", "csv": "text/csv"}


class Query(BaseModel, extra="forbid"):
    """A misspelt option must not pass for the default, nor what no text can hold for a search."""

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("a NUL is no part of a text")
        return value


class ListQuery(Query):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: str | None = Field(default=None, pattern="^batch_[0-9a-f]+$", description="Id of the last batch seen")


class ImagesQuery(Query):
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: str | None = Field(default=None, pattern="^[0-9]{1,12}$", description="`after` of the page before")
    state: ImageState | None = Field(default=None, description="Only images in this state")


class ResultsQuery(Query):
    partial: bool = Field(default=False, description="Answer before the batch is finished")


@blueprint.get("")
@needs(Scope.READ)
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
@needs(Scope.READ)
@blueprint.output(BatchStatus)
@blueprint.doc(
    summary="State, live counts and forecast of a batch; `Prefer: wait=20` waits for a change", responses=[404, 410]
)
def status(batch_id: str) -> Response:
    seconds = polling.wanted_seconds(request)
    answer, entity_tag = _standing(batch_id)
    waited = False
    if seconds and answer.state in OPEN:
        seen = request.if_none_match.as_set(include_weak=True) or {entity_tag}

        def changed() -> bool:
            now_open = _progress(batch_id).open
            return not now_open or _standing(batch_id)[1] not in seen

        waited = parts().patience.wait(seconds, changed)
        answer, entity_tag = _standing(batch_id)
    response = polling.tagged(answer, entity_tag, request)
    if waited:
        response.headers["Preference-Applied"] = f"wait={seconds}"
    if answer.state in OPEN:
        response.headers["Retry-After"] = polling.pause(answer.eta_seconds)
    return response


def _standing(batch_id: str) -> tuple[BatchStatus, str]:
    """Where the batch stands, with its entity tag."""
    progress = _progress(batch_id)
    if progress.purged_at and progress.results_purged_at:
        raise Problem(
            410,
            "results_purged",
            "The batch's images and its results are gone; the audit tells of it as long as it is kept.",
        )
    with parts().system.read() as session:  # others' images wait before it too
        answer = BatchStatus.at(progress, forecast.forecast(session, progress))
    return answer, polling.tag(answer, without={"queue_position", "eta_seconds"})


@blueprint.get("/<batch_id>/images")
@needs(Scope.READ)
@blueprint.input(ImagesQuery, location="query", arg_name="query")
@blueprint.output(ImageList)
@blueprint.doc(summary="The batch's images where they stand, in the order of submission")
def images(batch_id: str, query: ImagesQuery) -> ImageList:
    _readable(batch_id)
    with parts().database.read() as session:
        after = int(query.after or 0)
        found = list(batches.lines(session, batch_id, after=after, limit=query.limit + 1, state=query.state))
    more = len(found) > query.limit
    page = found[: query.limit]
    parts().looks.at_lines(who(), batch_id, page)
    after_last = str(page[-1].id) if more else None
    return ImageList(data=[ImageAnswer.of(line) for line in page], has_more=more, after=after_last)


@blueprint.get("/<batch_id>/images/<path:custom_id>")
@needs(Scope.READ)
@blueprint.output(ImageAnswer)
@blueprint.doc(summary="One image of the batch by the sender's name for it", responses=[404])
def image(batch_id: str, custom_id: str) -> ImageAnswer:
    _readable(batch_id)
    with parts().database.read() as session:
        found = list(batches.lines(session, batch_id, custom_id=custom_id)) if "\0" not in custom_id else []
    if not found:
        raise Problem(404, "image_unknown", "The batch has no image of this custom_id.")
    parts().looks.at_lines(who(), batch_id, found)
    return ImageAnswer.of(found[0])


@blueprint.get("/<batch_id>/results")
@needs(Scope.READ)
@blueprint.input(ResultsQuery, location="query", arg_name="query")
@blueprint.output(ResultList)
@blueprint.doc(summary="Results as JSON, or as CSV or NDJSON by Accept")
def results_by_accept(batch_id: str, query: ResultsQuery) -> Response:
    best = request.accept_mimetypes.best_match(list(_TYPES.values())) if request.accept_mimetypes else _TYPES["json"]
    if best is None:
        raise Problem(406, "not_acceptable", f"Results come as {', '.join(_TYPES.values())}.")
    return _results(batch_id, best, partial=query.partial)


@blueprint.get("/<batch_id>/results.<any(json, ndjson, csv):suffix>")
@needs(Scope.READ)
@blueprint.input(ResultsQuery, location="query", arg_name="query")
@blueprint.doc(summary="Results in the form that the address names")
def results_by_suffix(batch_id: str, suffix: str, query: ResultsQuery) -> Response:
    return _results(batch_id, _TYPES[suffix], partial=query.partial)


def _results(batch_id: str, media_type: str, *, partial: bool) -> Response:
    progress = _readable(batch_id)
    if progress.open and not partial:
        detail = f"{progress.done} of {progress.total} images are done; wait, or ask for partial results."
        raise Problem(409, "not_finished", detail, retryable=True)
    database = parts().database
    bodies = {
        _TYPES["json"]: lambda: results.as_json(database, progress),
        _TYPES["ndjson"]: lambda: results.as_ndjson(database, batch_id),
        _TYPES["csv"]: lambda: results.as_csv(database, batch_id),
    }
    if progress.open or progress.counts[ImageState.CLASSIFIED]:
        form = next(suffix for suffix, known in _TYPES.items() if known == media_type)
        parts().looks.at_export(who(), batch_id, form=form)
    body = results.gathered(bodies[media_type]())
    return Response(body, content_type=f"{media_type}; charset=utf-8", headers={"Cache-Control": "no-store"})


@blueprint.post("/<batch_id>/cancel")
@needs(Scope.SUBMIT)
@blueprint.output(BatchAnswer, status_code=202)
@blueprint.doc(summary="Stop what has not begun; what is done is kept", responses=[404, 409])
def cancel(batch_id: str) -> BatchAnswer:
    with changing(batch_id) as (session, batch):
        try:
            ending.cancel(session, batch, actor=who())
        except ending.BatchClosed as error:
            raise Problem(409, "batch_closed", "The batch has ended; there is nothing left to cancel.") from error
    current_app.logger.info("cancelled %s", batch_id)
    return BatchAnswer.of(_progress(batch_id))


@blueprint.post("/<batch_id>/retry")
@needs(Scope.SUBMIT)
@blueprint.output(BatchAnswer, status_code=202)
@blueprint.doc(summary="Queue again what was quarantined, cancelled or expired", responses=[404, 409, 410])
def retry(batch_id: str) -> BatchAnswer:
    own = parts()
    with changing(batch_id) as (session, batch):
        lane = Lane(batch.lane)
        try:
            moved = ending.retry(session, batch, actor=who(), expire_seconds=own.settings.expire_hours * 3600)
        except ending.BatchPurged as error:
            raise Problem(410, "batch_purged", "The batch's images were purged; submit them again.") from error
        except ending.NeverSubmitted as error:
            raise Problem(409, "never_submitted", "The draft ended before it was submitted; open another.") from error
        except ending.NothingToRetry as error:
            words = "Every image has its result or was rejected, and a rejected one would be rejected again."
            raise Problem(409, "nothing_to_retry", words) from error
    own.tickets.ring(lane, moved)
    current_app.logger.info("retried %d images of %s", moved, batch_id)
    return BatchAnswer.of(_progress(batch_id))


@blueprint.delete("/<batch_id>")
@needs(Scope.ADMIN)
@blueprint.output(BatchAnswer, status_code=202)
@blueprint.doc(summary="Purge the batch's pixels; results and audit stay", responses=[404, 409])
def purge(batch_id: str) -> BatchAnswer:
    with changing(batch_id) as (session, batch):
        purging.mark(session, batch, actor=who())
    removed = purging.remove(parts().system, parts().blobs, batch_id)
    current_app.logger.info("purged %s: %d files", batch_id, removed)
    return BatchAnswer.of(_progress(batch_id))


@contextmanager
def changing(batch_id: str) -> Iterator[tuple[Session, Batch]]:
    """One transaction that holds the batch."""
    with parts().database.write() as session:
        batch = batches.find(session, batch_id) if batch_id.isprintable() else None
        if batch is None:
            raise unknown()
        try:
            yield session, batch
        except ending.BatchOpen as error:
            words = "The batch has not ended: wait for it, or cancel it."
            raise Problem(409, "batch_open", words, retryable=True) from error


def _progress(batch_id: str) -> Progress:
    with parts().database.read() as session:
        progress = batches.progress(session, batch_id) if batch_id.isprintable() else None
    if progress is None:
        raise unknown()
    return progress


def _readable(batch_id: str) -> Progress:
    """Where a batch stands whose images and results are still there."""
    progress = _progress(batch_id)
    if progress.results_purged_at:
        raise Problem(410, "results_purged", "The results were kept as long as they had to be, and are gone.")
    return progress


def unknown() -> Problem:
    return Problem(404, "batch_unknown", "There is no batch of this id; GET /v1/batches lists them.")
