"""How the models do: by ground truth as it comes in, by drift; for people, and as numbers for a monitoring system."""

from collections.abc import Iterator

from apiflask import APIBlueprint
from flask import Response
from pydantic import BaseModel, Field

from api.access import needs
from api.models import refusing
from api.problems import Problem
from api.wiring import parts
from db import drift, heartbeats, monitoring, promotions, registry, runs
from db.duties import DUTIES
from db.keys import Scope
from db.monitoring import Drift, Performance, Rate

blueprint = APIBlueprint("monitoring", __name__, tag="Models")

Sample = tuple[str, dict[str, str], float]


class RateAnswer(BaseModel):
    right: int
    of: int
    value: float | None
    interval: tuple[float, float] | None = Field(description="95 %, by Wilson")

    @classmethod
    def of_(cls, rate: Rate) -> "RateAnswer":
        return cls(right=rate.right, of=rate.of, value=rate.value, interval=rate.interval)


class PerformanceAnswer(BaseModel):
    site: str
    sensitivity: RateAnswer
    specificity: RateAnswer
    inconclusive: int = Field(description="Images with a label to which it gave no answer; in neither rate")

    @classmethod
    def of(cls, found: Performance) -> "PerformanceAnswer":
        rates = {name: RateAnswer.of_(getattr(found, name)) for name in ("sensitivity", "specificity")}
        return cls(site=found.site, inconclusive=found.inconclusive, **rates)


class DriftAnswer(BaseModel):
    feature: str
    images: int = Field(description="Of the last week")
    index: float | None = Field(description="Population stability index against the training data")
    bound: float = drift.BOUND
    alarm: bool

    @classmethod
    def of(cls, found: Drift) -> "DriftAnswer":
        return cls(feature=found.feature, images=found.images, index=found.index, alarm=found.alarm)


class MonitoringAnswer(BaseModel):
    version: str
    performance: list[PerformanceAnswer]
    drift: list[DriftAnswer] = Field(
        description="Empty where neither a verdict nor the version itself knows its training data"
    )


@blueprint.get("/v1/models/<version>/monitoring")
@needs(Scope.READ)
@blueprint.output(MonitoringAnswer)
@blueprint.doc(summary="Live sensitivity and specificity by site, and drift", responses=[404])
def watch(version: str) -> MonitoringAnswer:
    with refusing(), parts().database.read() as session:
        registry.find(session, version)
        found = [PerformanceAnswer.of(one) for one in monitoring.performance(session, version)]
        moved = [DriftAnswer.of(one) for one in monitoring.drifts(session, version)]
    return MonitoringAnswer(version=version, performance=found, drift=moved)


@blueprint.get("/metrics")
@needs(Scope.READ)
@blueprint.doc(summary="Numbers and alarms in the text format of Prometheus")
def metrics() -> Response:
    seen, lines = set[str](), []
    try:
        samples = list(_samples())
    except registry.NoChampion as error:
        raise Problem(503, "no_model", str(error), retryable=True) from error
    for name, labels, value in samples:
        if name not in seen:
            seen.add(name)
            lines.append(f"# TYPE {name} gauge")
        told = ",".join(f'{key}="{text}"' for key, text in labels.items())
        lines.append(f"{name}{{{told}}} {value:g}" if told else f"{name} {value:g}")
    return Response("\n".join(lines) + "\n", content_type="text/plain; version=0.0.4; charset=utf-8")


def _samples() -> Iterator[Sample]:
    """Those of one name together."""
    with parts().database.read() as session:
        champion = registry.champion(session).version
        signs = heartbeats.signs(session)
        yield "cxr_workers", {}, sum(sign.alive for sign in signs)
        yield "cxr_promotion_refused", {}, promotions.refusal(session) is not None
        for kind in DUTIES:
            yield f"cxr_{kind.named}_unfinished", {}, runs.unfinished(session, kind) is not None
            yield f"cxr_{kind.named}_abandoned", {}, runs.is_abandoned(session, kind)
        rates, drifts = monitoring.performance(session, champion), monitoring.drifts(session, champion)
    for name in ("sensitivity", "specificity"):
        for rate in ((one.site, getattr(one, name)) for one in rates):
            yield from _rate(f"cxr_model_{name}", {"model": champion, "site": rate[0]}, rate[1])
    for one in drifts:
        if one.index is not None:
            yield "cxr_model_stability_index", {"model": champion, "feature": one.feature}, one.index
    for one in drifts:
        yield "cxr_model_drift_alarm", {"model": champion, "feature": one.feature}, one.alarm


def _rate(name: str, labels: dict[str, str], rate: Rate) -> Iterator[Sample]:
    if rate.value is not None:
        yield name, labels, rate.value
