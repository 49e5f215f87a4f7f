"""A challenger looks at the last images of patients, in a process that yields to the line; no result is made."""

from collections.abc import Callable
from typing import Final

from db import shadows
from db.blobs import Blobs
from db.database import Database
from db.shadows import Seen, ShadowReport
from worker.assessment import assess
from worker.decoders import Decoded, Decoders
from worker.gate import Gate
from worker.models import Models

_TOGETHER: Final = 32


def look(
    database: Database,
    blobs: Blobs,
    decoders: Decoders,
    version: str,
    *,
    images: int,
    actor: str,
    on_image: Callable[[int, int], None] = lambda _done, _total: None,
) -> ShadowReport:
    """Let the version judge the last images as the line would, and keep what would change. Raises ModelUnusable."""
    models = Models(database, blobs, batch_size=_TOGETHER)
    loaded = models.get(version)
    gate = Gate(batch_size=_TOGETHER)
    with database.read() as session:
        answered = shadows.last(session, images)
    decisions = models.decisions(version, {one.site for one in answered})
    seen: list[Seen] = []
    for start in range(0, len(answered), _TOGETHER):
        some = answered[start : start + _TOGETHER]
        decoded = decoders.decode([blobs.path(one.sha256) for one in some])
        whole = [answer for answer in decoded if isinstance(answer, Decoded)]
        predictions = iter(assess(whole, gate, loaded.predictor.predict))
        seen += [
            Seen(one, decisions[one.site].again(next(predictions)).label if isinstance(answer, Decoded) else None)
            for one, answer in zip(some, decoded, strict=True)
        ]
        on_image(len(seen), len(answered))
    with database.write() as session:
        return shadows.record(session, version, seen, actor=actor)
