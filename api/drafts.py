"""Drafts: open one with JSON, put its images in one by one, submit it when it is complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from apiflask import APIBlueprint
from flask import Response, current_app, request, url_for
from pydantic import BaseModel, Field

from api import once, uploads
from api.acceptance import accepted, check_kept, model_needed
from api.access import needs
from api.batches import changing, unknown
from api.problems import Problem, disk_watched
from api.schemas import BatchAnswer, ImageAnswer, SubmittedAnswer
from api.wiring import Parts, parts, who
from db import batches, drafts
from db.drafts import Room
from db.keys import Scope
from db.tables import Batch, Lane

blueprint = APIBlueprint("drafts", __name__, url_prefix="/v1/batches", tag="Batches")


class Wanted(BaseModel, extra="forbid"):
    lane: Lane = Lane.ROUTINE
    synthetic: bool = Field(default=False, description="The images were made by code; shown wherever they are")


class Draft(Wanted):
    """Opens a batch that is filled image by image."""

    total: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="How many images it is to have; then it cannot be submitted with another number"
    )


def begin(asked: Draft) -> Response:
    """Open the draft: 201."""
    own = parts()
    with own.database.write() as session:
        batch = drafts.begin(
            session,
            lane=asked.lane,
            actor=who(),
            synthetic=asked.synthetic,
            announced=asked.total,
            expire_seconds=own.settings.expire_hours * 3600,
        )
        answer = BatchAnswer.of(batches.at(session, batch))
    current_app.logger.info("opened %s", batch.id)
    headers = {"Location": url_for("batches.status", batch_id=batch.id)}
    return Response(answer.model_dump_json(), 201, headers, content_type="application/json")


@blueprint.put("/<batch_id>/images/<path:custom_id>")
@needs(Scope.SUBMIT)
@blueprint.output(ImageAnswer, status_code=201)
@blueprint.doc(summary="Put one image into a draft; the body is the file; 200 if it is there already")
def put(batch_id: str, custom_id: str) -> tuple[ImageAnswer, int]:
    own = parts()
    with own.database.read() as session:
        batch = session.get(Batch, batch_id) if batch_id.isprintable() else None
        if batch is None:
            raise unknown()
        with _draft():
            drafts.check_open(batch)  # before a body that nobody wants is read
        held = drafts.held(session, batch_id, custom_id) if "\0" not in custom_id else None
    if held is None:  # what is there already costs nothing of the day
        own.rates.check_room()
    with disk_watched(), own.blobs.delivery() as delivery:
        item = uploads.receive_one(request, custom_id, own.blobs, delivery, own.settings)
        if held is None:
            own.rates.check([item])
        with _draft():
            drafts.check_same(held, item)
        delivery.settle()
        with changing(batch_id) as (session, batch), _draft():
            new = drafts.put(session, batch, item, actor=who(), room=_room(own),
                             expire_seconds=own.settings.expire_hours * 3600)  # fmt: skip
            check_kept(own, [item])
            line = next(batches.lines(session, batch_id, custom_id=custom_id))
    if new:
        own.rates.count([item])
    return ImageAnswer.of(line), 201 if new else 200


@blueprint.post("/<batch_id>/submit")
@needs(Scope.SUBMIT)
@blueprint.output(SubmittedAnswer, status_code=202)
@blueprint.doc(summary="Close a draft and queue its images", responses=[404, 409])
def submit(batch_id: str) -> Response:
    own = parts()
    with model_needed(), changing(batch_id) as (session, batch), _draft():
        once.about(batch_id)
        lane = Lane(batch.lane)
        moved = drafts.submit(session, batch, actor=who(), expire_seconds=own.settings.expire_hours * 3600)
    own.tickets.ring(lane, moved)
    current_app.logger.info("accepted %s with %d images", batch_id, batch.total)
    return accepted(batch_id)


@contextmanager
def _draft() -> Iterator[None]:
    """Say what a draft cannot do."""
    try:
        yield
    except drafts.DraftClosed as error:
        raise Problem(409, "draft_closed", "The batch was submitted or has ended; open another.") from error
    except drafts.OtherBytes as error:
        words = "The draft holds another image of this custom_id; give each image its own."
        raise Problem(409, "other_bytes", words) from error
    except drafts.DraftIncomplete as error:
        words = "The draft holds another number of images than the total that it was opened with."
        raise Problem(409, "total_differs", words, retryable=True) from error
    except drafts.DraftEmpty as error:
        raise Problem(422, "empty_batch", "The draft holds no image; put at least one in.") from error
    except drafts.DraftFull as error:
        words = f"A batch holds at most so many {error}: see GET /v1/limits; submit this one and open another."
        raise Problem(413, "draft_full", words) from error


def _room(own: Parts) -> Room:
    return Room(own.settings.max_images, own.settings.max_batch_bytes)
