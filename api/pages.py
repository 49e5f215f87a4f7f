"""The pages: all batches, and one batch with its images; they move while a batch runs."""

from typing import Final

from apiflask import APIBlueprint
from flask import g, render_template, request

from api.access import needs
from api.problems import Problem
from api.schemas import NOTICE
from api.wiring import parts, who
from db import batches, heartbeats, labels, promotions
from db.keys import Scope
from db.labels import Source
from worker.rejection import CODES, NOTES, REASONS

blueprint = APIBlueprint("pages", __name__, enable_openapi=False)

_BATCHES = 50
_IMAGES = 200
_MOST_IMAGES = 1 << 31
SOURCES: Final = {Source.RT_PCR: "RT-PCR", Source.RADIOLOGIST: "radiologist"}


@blueprint.get("/")
@needs(Scope.READ)
def start() -> str:
    after = request.args.get("after")
    with parts().database.read() as session:
        found = batches.newest(session, limit=_BATCHES + 1, after=after if after and after.isprintable() else None)
        workers = sum(sign.alive for sign in heartbeats.signs(session))
        refused = promotions.refusal(session)
    page = found[:_BATCHES]
    older = page[-1].id if len(found) > _BATCHES else None
    return render_template("start.html", batches=page, older=older, workers=workers, refused=refused, notice=NOTICE)


@blueprint.get("/batches/<batch_id>")
@needs(Scope.READ)
def batch(batch_id: str) -> str:
    after = min(max(request.args.get("after", default=0, type=int), 0), _MOST_IMAGES)
    with parts().database.read() as session:
        progress = batches.progress(session, batch_id) if batch_id.isprintable() else None
        if progress is None:
            raise Problem(404, "batch_unknown", "There is no batch of this id.")
        gone = progress.results_purged_at is not None
        found = [] if gone else list(batches.lines(session, batch_id, skip=after, limit=_IMAGES + 1))
        lines = found[:_IMAGES]
        truths = labels.that_hold(session, [line.id for line in lines])
    parts().looks.at_page(who(), batch_id, lines)
    return render_template(
        "batch.html",
        batch=progress,
        lines=lines,
        truths=truths,
        sources=SOURCES,
        reviews=Scope.REVIEW in g.caller.scopes,
        first=after + 1,
        older=after + _IMAGES if len(found) > _IMAGES else None,
        newer=max(after - _IMAGES, 0) if after else None,
        running=progress.open,
        codes=CODES | REASONS | NOTES,
        notice=NOTICE,
    )
