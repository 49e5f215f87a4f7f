"""A result's heatmap: a worker makes it, asked by a ticket, since the API has no TensorFlow."""

from apiflask import APIBlueprint
from flask import Response, jsonify, request

from api.access import needs
from api.batches import POLL_SECONDS
from api.findings import find
from api.polling import wanted_seconds
from api.problems import Problem
from api.wiring import parts, who
from db import heartbeats, heatmaps
from db.keys import Scope
from db.tables import Batch

blueprint = APIBlueprint("heatmaps", __name__, url_prefix="/v1/results", tag="Results")

_PATIENCE_SECONDS = 10


@blueprint.get("/<result_id>/heatmap.png")
@needs(Scope.READ)
@blueprint.doc(
    summary="Where the model looked (Grad-CAM), as PNG; waits for it as `Prefer: wait` says, else 10 seconds",
    responses={
        202: "No worker has made it yet: ask again after Retry-After",
        404: "No such result",
        409: "It has no score",
        410: "The image was purged",
    },
)
def heatmap(result_id: str) -> Response:
    with parts().database.read() as session:
        found = find(session, result_id)
        purged_at = session.get_one(Batch, found.result.batch_id).purged_at
    if purged_at is not None:
        raise Problem(410, "batch_purged", "The image of this result was purged; the result stays.")
    if found.result.probability is None:
        raise Problem(409, "no_score", "The model was not asked about this image; its result says why.")
    path = heatmaps.path(parts().blobs, found.result.batch_id, result_id)
    if not path.exists():
        parts().tickets.explain(result_id)
        if _a_worker_lives():
            parts().patience.wait(wanted_seconds(request) or _PATIENCE_SECONDS, path.exists)
    if not path.exists():
        return _not_yet()
    parts().looks.at_result(who(), found)
    return Response(path.read_bytes(), content_type="image/png")


def _not_yet() -> Response:
    response = jsonify(detail="No worker has made it yet; ask again.")
    response.status_code, response.headers["Retry-After"] = 202, POLL_SECONDS
    return response


def _a_worker_lives() -> bool:
    with parts().database.read() as session:
        return any(sign.alive for sign in heartbeats.signs(session))
