"""Take a batch in: 202 once it is on the disk and in the database."""

from collections.abc import Sequence
from typing import Any

from apiflask import APIBlueprint
from flask import current_app, request
from pydantic import Field

from api import drafts, once, uploads
from api.acceptance import accepted, check_kept, model_needed
from api.access import needs
from api.batches import Query
from api.problems import disk_watched
from api.schemas import SubmittedAnswer
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


@blueprint.post("")
@needs(Scope.SUBMIT)
@once.streaming
@blueprint.input(SubmitQuery, location="query", arg_name="query")
@blueprint.output(SubmittedAnswer, status_code=202)
@blueprint.doc(summary="Submit images as one batch: many files, or one zip; or open a draft with JSON")
def submit(query: SubmitQuery) -> Any:
    if request.mimetype == "application/json":
        return drafts.begin(query.lane, synthetic=query.synthetic)
    own = parts()
    with disk_watched(), model_needed(), own.blobs.delivery() as delivery:
        items = uploads.receive(request, own.blobs, delivery, own.settings)
        once.said(query.lane, query.synthetic, idempotency.of_items(items), rebuilt=accepted)
        batch_id = _kept(own, delivery, items, query)
    own.tickets.ring(query.lane, len(items))
    current_app.logger.info("accepted %s with %d images", batch_id, len(items))
    return accepted(batch_id)


def _kept(own: Parts, delivery: Delivery, items: Sequence[Item], query: SubmitQuery) -> str:
    """Bring the images to the disk, then the batch to the database, and return its id."""
    delivery.settle()
    seconds = own.settings.expire_hours * 3600
    with own.database.write() as session:
        batch_id = batches.add(
            session, items, lane=query.lane, actor=who(), synthetic=query.synthetic, expire_seconds=seconds
        ).id
        once.about(batch_id)
        check_kept(own, items)
    return batch_id
