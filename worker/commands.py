"""What computes one result again where the images are, without a server."""

from typing import Any

import home
from db import audit, confirmation, results
from db.blobs import Blobs
from settings import Settings
from terminal import fail, operator
from worker import device


def computed_again(settings: Settings, result: str) -> dict[str, Any]:
    """What `cxr verify` finds where the images are; ends the command where there is no such result."""
    device.quiet()
    from worker import verification  # noqa: PLC0415 - loads TensorFlow
    from worker.decoders import Decoders  # noqa: PLC0415
    from worker.judge import Judge  # noqa: PLC0415
    from worker.models import Models  # noqa: PLC0415

    database, blobs = home.database(settings), Blobs(settings.blobs)
    models = Models(database, blobs, batch_size=settings.batch_size)
    judge = Judge(models, batch_size=settings.batch_size, longest_seconds=settings.lease_seconds)
    decoders = Decoders.of(settings, 1)
    try:
        with database.read() as session:
            found = results.one(session, result)
        if found is None:
            fail(f"there is no result {result}")
        told = verification.told(found, verification.Bench(database, blobs, decoders, models, judge))
        actor, origin = operator()
        with audit.coming_from(origin), database.write() as session:
            confirmation.keep(session, found, actor, told)
    finally:
        decoders.close()
    return told
