"""The task that makes a result's heatmap; one at a time, so that it takes no more than one core from the line."""

import logging
import threading

from celery import Celery

from db import heatmaps, results
from db.blobs import BlobDamaged, Blobs
from db.database import Database
from db.tables import Batch
from worker.decoders import Decoders, DecodersUnusable
from worker.rejection import ImageRejected
from worker.tickets import EXPLAIN

log = logging.getLogger(__name__)


def register(app: Celery, database: Database, blobs: Blobs, decoders: Decoders) -> None:
    """Teach a worker to make heatmaps."""
    alone = threading.Lock()

    def explain(result_id: str) -> None:
        """Make it, unless it is there or cannot be made; who waits for it then waits in vain."""
        with alone:
            make(database, blobs, decoders, result_id)

    app.task(name=EXPLAIN)(explain)


def make(database: Database, blobs: Blobs, decoders: Decoders, result_id: str) -> bool:
    """Return whether the heatmap of this result is there now."""
    with database.read() as session:
        found = results.one(session, result_id)
        if found is None or found.result.probability is None:
            return False
        result = found.result
        if session.get_one(Batch, result.batch_id).purged_at is not None:
            return False
    if heatmaps.path(blobs, result.batch_id, result.id).exists():
        return True
    from worker import heatmap  # noqa: PLC0415 - loads TensorFlow, which the device must precede

    try:
        (decoded,) = decoders.decode([blobs.path(result.image_sha256)])
        weights = blobs.read(result.weights_sha256)
    except (OSError, BlobDamaged, DecodersUnusable) as error:
        log.warning("no heatmap of %s: %s", result_id, type(error).__name__)
        return False
    if isinstance(decoded, ImageRejected):
        log.warning("no heatmap of %s: %s", result_id, decoded.code)
        return False
    heat = heatmap.heatmap(weights, decoded.grey, preprocessing=result.preprocessing)
    heatmaps.put(blobs, result.batch_id, result.id, heatmap.png(decoded.grey, heat))
    return True
