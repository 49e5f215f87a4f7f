"""Stored images with a score and a label, as the line and a hospital leave them."""

from dataclasses import replace
from typing import Any

from db import batches, labels, queue, tenancy
from db.batches import Item
from db.blobs import Blobs
from db.database import Database
from db.labels import Given, Source, Truth
from db.queue import Finding
from db.tables import Label, Lane
from tests import teaching


def picture(seed: int, *, ill: bool = False) -> bytes:
    return teaching.png(teaching.radiograph(seed, ill=ill)[0])


def classified(database: Database, blobs: Blobs, *pictures: bytes, **batch: Any) -> list[str]:
    """Submit and finish them as a worker does, and return their SHA-256."""
    sha256s = [blobs.put(data) for data in pictures]
    with database.of(tenancy.DEFAULT).write() as session:
        items = [Item(f"{number}.png", sha256, 1, "image/png") for number, sha256 in enumerate(sha256s)]
        batches.add(session, items, lane=Lane.ROUTINE, actor="test", **batch)
    with database.write() as session:
        claim = queue.claim(session, Lane.ROUTINE, 100, lease_seconds=60, alone=False)
        assert claim
        found = Finding(
            image=claim.images[0],
            identifiers=None,
            weights_sha256="",
            preprocessing="",
            raw_probability=0.5,
            probability=0.5,
            threshold=0.5,
            label=Label.POSITIVE,
            reasons=(),
            decode_ms=0,
            predict_ms=0,
        )
        queue.finish(session, claim, [replace(found, image=image) for image in claim.images], [], worker="test")
    return sha256s


def label(database: Database, sha256: str, truth: Truth, patient: str | None = None) -> None:
    with database.of(tenancy.DEFAULT).write() as session:
        given = Given(truth, Source.RT_PCR, "laboratory", image_sha256=sha256, patient=patient)
        assert labels.give(session, [given], actor="test")[0].label
