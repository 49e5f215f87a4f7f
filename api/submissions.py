"""Take a batch in: 202 once it is on the disk and in the database."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from apiflask import APIBlueprint
from flask import current_app, request
from pydantic import Field, RootModel

from api import bodies, drafts, imports, once, uploads
from api.acceptance import accepted, check_kept, model_needed
from api.access import needs
from api.batches import Query
from api.drafts import Draft, Wanted
from api.problems import Problem, disk_watched
from api.schemas import SubmittedAnswer
from api.uploads import Intake
from api.wiring import Parts, parts, who
from db import batches, idempotency
from db.batches import Item
from db.blobs import Delivery
from db.keys import Scope
from db.tables import Lane

blueprint = APIBlueprint("submissions", __name__, url_prefix="/v1/batches", tag="Batches")


class SubmitQuery(Query):
    lane: Lane = Lane.ROUTINE
    synthetic: bool = Field(default=False, description="The images were made by code; shown wherever they are")


class Import(Wanted):
    """Submits files that the server finds below its import root."""

    paths: list[Annotated[str, Field(max_length=uploads.LONGEST_NAME)]] = Field(
        alias="import", min_length=1, max_length=imports.MOST_PATHS, description="Files and directories, relative"
    )


class Described(RootModel[Import | Draft]):
    """What JSON can ask for."""


@blueprint.post("")
@needs(Scope.SUBMIT)
@once.streaming(rebuilt=accepted)
@blueprint.input(SubmitQuery, location="query", arg_name="query")
@blueprint.output(SubmittedAnswer, status_code=202)
@blueprint.doc(summary="Submit images as one batch: files, a zip, or paths on the server; or open a draft with JSON")
def submit(query: SubmitQuery) -> Any:
    own = parts()
    if request.mimetype != "application/json":
        own.rates.check_room()
        with disk_watched(), model_needed(), own.blobs.delivery() as delivery:
            items = uploads.receive(request, own.blobs, delivery, own.settings)
            once.said(query.lane, query.synthetic, idempotency.of_items(items))
            return _submitted(own, delivery, items, query.lane, synthetic=query.synthetic)
    if request.args:
        raise Problem(400, "invalid_query", "With JSON, lane and synthetic go into the body.")
    asked = bodies.parsed(Described).root
    if isinstance(asked, Draft):
        return drafts.begin(asked)
    own.rates.check_room()
    with disk_watched(), model_needed(), own.blobs.delivery() as delivery:
        uploads.check_length(request, own.blobs, own.settings)
        intake = Intake(delivery, own.settings)
        imports.take(intake, _import_root(own), asked.paths)
        return _submitted(own, delivery, intake.all(), asked.lane, synthetic=asked.synthetic)


def _import_root(own: Parts) -> Path | None:
    """Each hospital's files lie in a directory of its name."""
    return Path(own.settings.import_root) / own.tenant if own.settings.import_root and own.tenant else None


def _submitted(own: Parts, delivery: Delivery, items: Sequence[Item], lane: Lane, *, synthetic: bool) -> Any:
    """Bring the images to the disk, then the batch to the database, then ring and answer."""
    own.rates.take(items)
    delivery.settle()
    seconds = own.settings.expire_hours * 3600
    with own.database.write() as session:
        batch_id = batches.add(session, items, lane=lane, actor=who(), synthetic=synthetic, expire_seconds=seconds).id
        once.about(batch_id)
        check_kept(own, items)
    own.tickets.ring(lane, len(items))
    current_app.logger.info("accepted %s with %d images", batch_id, len(items))
    return accepted(batch_id)
