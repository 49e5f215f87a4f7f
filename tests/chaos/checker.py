"""The one checker: what the client was promised against what the database, the blobs and the audit say."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db import proof
from db.blobs import Blobs
from db.chains import AuditRow
from db.database import Database
from db.tables import OPEN, TERMINAL, Batch, Image, ImageState, Model, Result
from tests.chaos.load import Sent

_SHOWN = 5
_QUARANTINED, _REJECTED = ImageState.QUARANTINED, ImageState.REJECTED


@dataclass
class Verdict:
    """What is wrong: images lost, images answered twice, and every other broken rule in words."""

    images: int = 0
    lost: int = 0
    new_batches: int = 0
    twice: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    @property
    def duplicated(self) -> int:
        """Images answered twice, and batches that a repeated request made."""
        return len(self.twice) + self.new_batches

    @property
    def holds(self) -> bool:
        return not (self.lost or self.duplicated or self.problems)

    def complain(self, what: str, which: Iterable[object]) -> int:
        """Note the offenders, if any, and return how many."""
        found = list(which)
        if found:
            self.problems.append(f"{what}: {len(found)}, such as {', '.join(map(str, found[:_SHOWN]))}")
        return len(found)


def check(
    database: Database,
    blobs: Blobs,
    sent: Mapping[str, Sent],
    *,
    poisoned: frozenset[str] = frozenset(),
    broken: frozenset[str] = frozenset(),
    cancelled: frozenset[str] = frozenset(),
    purged: frozenset[str] = frozenset(),
) -> Verdict:
    """Compare; by their SHA-256, `poisoned` images must end in quarantine, `broken` ones rejected, and no others may.

    `cancelled` and `purged` are the batches that were.
    """
    verdict = Verdict()
    with database.read() as session:
        images = list(session.scalars(select(Image)))
        ends = dict.fromkeys(poisoned, _QUARANTINED) | dict.fromkeys(broken, _REJECTED)
        _promised(verdict, images, sent, ends, cancelled)
        _nothing_new(verdict, session, sent)
        _results(verdict, session, images)
        _batches(verdict, session, images)
        _audit(verdict, session, images)
    _blobs(verdict, blobs, [image for image in images if image.batch_id not in purged])
    return verdict


def _promised(
    verdict: Verdict,
    images: list[Image],
    sent: Mapping[str, Sent],
    ends: Mapping[str, ImageState],
    cancelled: frozenset[str],
) -> None:
    """Every image that was answered with 202 is in exactly one terminal state, and in the right one."""
    rows = {(image.batch_id, image.custom_id): image for image in images}
    lost = []
    for submission in sent.values():
        if submission.batch_id is None:
            continue
        verdict.images += len(submission.images)
        for name, sha256 in submission.images.items():
            image = rows.get((submission.batch_id, name))
            expected = {ends.get(sha256, ImageState.CLASSIFIED)}
            if submission.batch_id in cancelled:
                expected.add(ImageState.CANCELLED)
            if image is None or image.sha256 != sha256 or image.state not in expected:
                lost.append(f"{name} of {submission.batch_id} is {image and (image.state, image.code)}")
    verdict.lost = verdict.complain("lost", lost)
    held = [image.id for image in images if image.lease_token or image.state == ImageState.LEASED]
    verdict.complain("orphan leases", held)


def _nothing_new(verdict: Verdict, session: Session, sent: Mapping[str, Sent]) -> None:
    """A request that was sent again made nothing new."""
    known = Counter(submission.batch_id for submission in sent.values() if submission.batch_id)
    twice = [batch_id for batch_id, keys in known.items() if keys > 1]
    verdict.complain("one batch for two submissions", twice)
    # A sender that never got its answer may have left one batch for its key, not more.
    unanswered = sum(submission.batch_id is None for submission in sent.values())
    extra = set(session.scalars(select(Batch.id))) - set(known)
    if len(extra) > unanswered:
        verdict.new_batches = verdict.complain("batches that nobody submitted", extra)


def _results(verdict: Verdict, session: Session, images: list[Image]) -> None:
    by_id = {image.id: image for image in images}
    pinned = {row.id: row.model_version for row in session.execute(select(Batch.id, Batch.model_version))}
    weights = {row.version: row.weights_sha256 for row in session.execute(select(Model.version, Model.weights_sha256))}
    seen = Counter[tuple[int, str]]()
    unknown, mixed = [], []
    for result in session.scalars(select(Result)):
        image = by_id.get(result.image_id)
        seen[result.image_id, result.model_version] += 1
        if image is None or image.sha256 != result.image_sha256 or image.batch_id != result.batch_id:
            unknown.append(result.id)
        if result.model_version != pinned[result.batch_id] or result.weights_sha256 != weights[result.model_version]:
            mixed.append(result.id)
    verdict.complain("results of unknown images", unknown)
    verdict.complain("results of another model", mixed)
    twice = {image for (image, _), number in seen.items() if number > 1}
    verdict.complain("two results", twice)
    verdict.twice |= twice
    classified = {image.id for image in images if image.state == ImageState.CLASSIFIED}
    verdict.complain("classified without a result, or the other way round", classified ^ {image for image, _ in seen})


def _batches(verdict: Verdict, session: Session, images: list[Image]) -> None:
    numbers = Counter(image.batch_id for image in images)
    under_way = Counter(image.batch_id for image in images if image.state not in TERMINAL)
    found = list(session.scalars(select(Batch)))
    verdict.complain("batches whose images do not add up", [it.id for it in found if numbers[it.id] != it.total])
    wrong = [it.id for it in found if (it.state in OPEN) != bool(under_way[it.id])]
    verdict.complain("batches open without images under way, or closed with them", wrong)


def _audit(verdict: Verdict, session: Session, images: list[Image]) -> None:
    problem = proof.verify(session).problem
    if problem:
        verdict.problems.append(f"audit: {problem}")
    rows = select(AuditRow.subject, AuditRow.action, func.count()).group_by(AuditRow.subject, AuditRow.action)
    told = Counter({(subject, action): number for subject, action, number in session.execute(rows)})
    ended = [image for image in images if image.state in TERMINAL]
    uncovered = [image.id for image in ended if not told[f"image:{image.id}", f"image.{image.state}"]]
    verdict.complain("images that the audit does not cover", uncovered)
    twice = [image.id for image in images if told[f"image:{image.id}", "image.classified"] > 1]
    verdict.complain("classified twice by the audit", twice)
    verdict.twice |= set(twice)


def _blobs(verdict: Verdict, blobs: Blobs, images: list[Image]) -> None:
    wrong = [path.name for path in blobs.root.glob("??/*") if _hash(path) != path.name]
    verdict.complain("blobs whose bytes do not hash to their name", wrong)
    kept = [
        image for image in images if image.attempts or image.state != ImageState.REJECTED
    ]  # not what the door refused
    missing = {image.sha256 for image in kept if not blobs.path(image.sha256).exists()}
    verdict.complain("blobs that are missing", missing)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
