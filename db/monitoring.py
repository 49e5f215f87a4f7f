"""How a model version does on what came in: against ground truth as it arrives, and against its training data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import and_, case, distinct, func, select
from sqlalchemy.orm import Session

from db import drift, labels, registry, verdicts
from db.clock import now
from db.labels import GroundTruth, Truth
from db.tables import Batch, Label, Result

_WEEK_SECONDS: Final = 7 * 24 * 3600
_Z: Final = 1.959964
"""Of the normal distribution, for 95 %."""


@dataclass(frozen=True)
class Rate:
    """A share of `of`, with its 95 % interval by Wilson 1927; None where there is nothing to count."""

    right: int
    of: int

    @property
    def value(self) -> float | None:
        return self.right / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        if not self.of:
            return None
        share, spread = self.right / self.of, _Z**2 / self.of
        middle = share + spread / 2
        half = _Z * math.sqrt(share * (1 - share) / self.of + spread / (4 * self.of))
        return max((middle - half) / (1 + spread), 0.0), min((middle + half) / (1 + spread), 1.0)


@dataclass(frozen=True)
class Performance:
    """On the images of one site that have a label; those without an answer count in neither rate."""

    site: str
    sensitivity: Rate
    specificity: Rate
    inconclusive: int


@dataclass(frozen=True)
class Drift:
    """One feature of the last week against the training data."""

    feature: str
    images: int
    index: float | None

    @property
    def alarm(self) -> bool:
        return self.index is not None and self.images >= drift.LEAST_IMAGES and self.index >= drift.BOUND


def performance(session: Session, version: str) -> list[Performance]:
    """Return sensitivity and specificity by site; the same bytes count once, by the label that holds."""
    holds = labels.holding()
    rows = session.execute(
        select(Batch.tenant, Result.label, GroundTruth.label, func.count(distinct(Result.image_sha256)))
        .join(holds, holds.c.image_id == Result.image_id)
        .join(GroundTruth, GroundTruth.id == holds.c.label_id)
        .join(Batch, Batch.id == Result.batch_id)
        .where(Result.model_version == version, ~Batch.synthetic)
        .group_by(Batch.tenant, Result.label, GroundTruth.label)
    )
    counts: dict[str, dict[tuple[str, str], int]] = {}
    for site, said, is_, images in rows:
        counts.setdefault(site, {})[said, is_] = images
    return [_performance(site, found) for site, found in sorted(counts.items())]


def _performance(site: str, counts: dict[tuple[str, str], int]) -> Performance:
    def rate(right: Label, wrong: Label, truth: Truth) -> Rate:
        good = counts.get((right, truth), 0)
        return Rate(good, good + counts.get((wrong, truth), 0))

    return Performance(
        site,
        sensitivity=rate(Label.POSITIVE, Label.NEGATIVE, Truth.POSITIVE),
        specificity=rate(Label.NEGATIVE, Label.POSITIVE, Truth.NEGATIVE),
        inconclusive=sum(images for (said, _), images in counts.items() if said == Label.INCONCLUSIVE),
    )


def drifts(session: Session, version: str) -> list[Drift]:
    """Return the drift of scores and inputs over the last week, against the training data, or what its newest verdict knows of it."""
    verdict = verdicts.newest(session, version)
    known = registry.find(session, version).config.get("reference")
    expected = known or (verdict.reference if verdict else {})
    actual = drift.inputs(session, version) | {"score": _scores(session, version)}
    return [_drift(feature, counts, actual.get(feature, [])) for feature, counts in sorted(expected.items())]


def _drift(feature: str, expected: Sequence[int], actual: Sequence[int]) -> Drift:
    return Drift(feature, sum(actual), drift.stability_index(expected, actual) if actual else None)


def _scores(session: Session, version: str) -> list[int]:
    edges = [place / drift.BINS for place in range(1, drift.BINS)]
    bounds = zip([None, *edges], [*edges, None], strict=True)
    columns = [
        func.sum(
            case(
                (
                    and_(
                        *([Result.probability >= low] if low is not None else []),
                        *([Result.probability < high] if high is not None else []),
                    ),
                    1,
                ),
                else_=0,
            )
        )
        for low, high in bounds
    ]
    row = session.execute(
        select(*columns)
        .join(Batch, Batch.id == Result.batch_id)
        .where(
            Result.model_version == version,
            Result.probability.is_not(None),
            Result.created_at > now(-_WEEK_SECONDS),
            ~Batch.synthetic,
        )
    ).one()
    return [int(count or 0) for count in row]
