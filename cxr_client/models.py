"""What the server answers about model versions: what the gate found, who is champion, how they do."""

from datetime import datetime
from typing import Any

from cxr_client.answers import Answer


class Promotion(Answer):
    """A change of champion: pending until a worker has tried the version."""

    id: int
    version: str
    previous: str
    rollback: bool
    who: str
    reason: str
    state: str
    problem: str | None
    asked_at: datetime
    settled_at: datetime | None
    points_left: tuple[str, ...] = ()
    """Hospitals whose own operating point the version does not have; told only where the promotion is asked for."""


class Finding(Answer):
    """What one rule of the gate measured, and the bound that it had to keep."""

    rule: str
    passed: bool
    measured: float | None
    bound: float | None
    words: str


class Verdict(Answer):
    """What the gate found of a version against the champion, on the frozen fold."""

    passed: bool
    champion: str
    fold_fingerprint: str
    findings: list[Finding]
    created_at: datetime


class Model(Answer):
    version: str
    aliases: list[str]
    weights_sha256: str
    preprocessing: str
    threshold: float
    data_fingerprint: str
    registered_at: datetime
    auroc: float | None
    verdict: Verdict | None = None


class Flip(Answer):
    """So many images to which the version would have given another label."""

    site: str
    source: str
    before: str
    after: str
    images: int


class Shadow(Answer):
    """What a version would have said of the last images; none of it is a result."""

    images: int
    unreadable: int
    flips: list[Flip]
    created_at: datetime


class OperatingPoint(Answer):
    """Where the labels of a version begin and end at one's own hospital."""

    threshold: float
    band_low: float
    band_high: float


class ModelWhole(Model):
    """One version with all that is kept of it; without `operating_point` one's hospital decides as it was registered."""

    shadow: Shadow | None
    operating_point: OperatingPoint | None = None
    config: dict[str, Any]
    metrics: dict[str, Any]


class ModelList(Answer):
    data: list[Model]
    promotion: Promotion | None


class Rate(Answer):
    right: int
    of: int
    value: float | None
    interval: tuple[float, float] | None


class Performance(Answer):
    site: str
    sensitivity: Rate
    specificity: Rate
    inconclusive: int


class Drift(Answer):
    feature: str
    images: int
    index: float | None
    bound: float
    alarm: bool


class Monitoring(Answer):
    """How a version does by ground truth, and how far what comes in has moved."""

    version: str
    performance: list[Performance]
    drift: list[Drift]
