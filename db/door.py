"""What the audit and the sender are told of a submission."""

import hashlib
from collections.abc import Iterator, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import audit
from db.tables import Batch, Image, ImageState


def submitted(batch: Batch, sha256s: Sequence[str]) -> audit.Entry:
    """What the audit keeps of a submission."""
    together = hashlib.sha256("".join(sha256s).encode()).hexdigest()
    detail = {"images": len(sha256s), "lane": batch.lane, "model": batch.model_version, "sha256_of_sha256s": together}
    return audit.Entry("batch.submitted", batch.id, batch.id, detail)


def rejected(session: Session, batch: Batch, custom_id: str | None = None) -> Iterator[audit.Entry]:
    """What the audit keeps of the images that were rejected as they came in, or of that one."""
    rejected = select(Image.id, Image.sha256, Image.code).where(
        Image.batch_id == batch.id, Image.state == ImageState.REJECTED
    )
    if custom_id is not None:
        rejected = rejected.where(Image.custom_id == custom_id)
    for image_id, sha256, code in session.execute(rejected):
        yield audit.Entry("image.rejected", f"image:{image_id}", batch.id, {"sha256": sha256, "code": code})


def refused(session: Session, batch_id: str) -> list[tuple[str, str]]:
    """Return (custom_id, code) of the images that were rejected as they came in; a worker never saw them."""
    wanted = (Image.batch_id == batch_id, Image.state == ImageState.REJECTED, Image.attempts == 0)
    return [
        (name, code or "")
        for name, code in session.execute(select(Image.custom_id, Image.code).where(*wanted).order_by(Image.id))
    ]
