"""Model versions: what they are, what the gate says of them, who becomes champion, and the way back."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

from apiflask import APIBlueprint
from flask import current_app
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api.access import needs, of_the_installation
from api.problems import Problem
from api.texts import Text
from api.wiring import parts, who
from db import operating_points, promotions, registry, shadows, verdicts
from db.keys import Scope
from db.promotions import Promotion, PromotionState
from db.shadows import ShadowReport
from db.tables import Label, Model
from db.tenancy import DEFAULT
from db.verdicts import Verdict

blueprint = APIBlueprint("models", __name__, url_prefix="/v1/models", tag="Models")

Words = Annotated[Text, Field(max_length=500)]


class Approval(BaseModel, extra="forbid"):
    """A promotion needs a person and a reason; both stand in the audit."""

    who: Words = Field(description="Who answers for it")
    reason: Words


class FindingAnswer(BaseModel):
    rule: str
    passed: bool
    measured: float | None
    bound: float | None
    words: str


class VerdictAnswer(BaseModel):
    """What the gate found."""

    passed: bool
    champion: str = Field(description="Against which version")
    fold_fingerprint: str = Field(description="On which frozen fold")
    findings: list[FindingAnswer]
    created_at: datetime

    @classmethod
    def of(cls, verdict: Verdict) -> "VerdictAnswer":
        return cls(**{name: getattr(verdict, name) for name in cls.model_fields})


class PromotionAnswer(BaseModel):
    id: int
    version: str
    previous: str
    rollback: bool
    who: str
    reason: str
    state: PromotionState = Field(description="Pending until a worker has tried the version")
    problem: str | None = Field(description="Why no worker could use it, or who withdrew it; the old champion stayed")
    asked_at: datetime
    settled_at: datetime | None

    @classmethod
    def of(cls, promotion: Promotion) -> "PromotionAnswer":
        return cls(**{name: getattr(promotion, name) for name in cls.model_fields})


class AskedAnswer(PromotionAnswer):
    """A promotion that was asked for, and what it undoes."""

    points_left: list[str] = Field(
        description="Hospitals with an operating point of their own with the champion, and none yet with this version"
    )


class ModelAnswer(BaseModel):
    version: str
    aliases: list[str] = Field(description="`champion` answers new batches; `challenger` is the newest candidate")
    weights_sha256: str
    preprocessing: str
    threshold: float
    data_fingerprint: str
    registered_at: datetime
    auroc: float | None = Field(description="On the fold held out from its own training")
    verdict: VerdictAnswer | None = Field(description="The newest one of the gate")

    @classmethod
    def of(cls, session: Session, model: Model, aliases: dict[str, list[str]]) -> "ModelAnswer":
        own = {name: getattr(model, name) for name in cls.model_fields if hasattr(model, name)}
        verdict = verdicts.newest(session, model.version)
        return cls(
            **own,
            aliases=aliases.get(model.version, []),
            auroc=model.metrics.get("auroc"),
            verdict=VerdictAnswer.of(verdict) if verdict else None,
        )


class ModelList(BaseModel):
    data: list[ModelAnswer]
    promotion: PromotionAnswer | None = Field(description="The last change of champion that was asked for")


class Flip(BaseModel):
    site: str
    source: str
    before: Label
    after: Label
    images: int


class ShadowAnswer(BaseModel):
    """What it would have said of the last images of patients; none of it is a result. Only one's own site is shown."""

    images: int
    unreadable: int
    flips: list[Flip]
    created_at: datetime

    @classmethod
    def of(cls, report: ShadowReport, site: str) -> "ShadowAnswer | None":
        """None where the site had no image in it, or a report from before sites were counted does not say."""
        counts = (report.sites or {}).get(site)
        if counts is None:
            return None
        flips = [Flip(**flip) for flip in report.flips if flip["site"] == site]
        return cls(**counts, flips=flips, created_at=report.created_at)


class OperatingPointAnswer(BaseModel):
    """Where the labels of a version begin and end at one's own hospital."""

    threshold: float
    band_low: float
    band_high: float

    @classmethod
    def of(cls, session: Session, version: str, tenant: str) -> "OperatingPointAnswer | None":
        """None where the hospital decides as the version was registered."""
        point = operating_points.holding(session, version, [tenant]).get(tenant)
        return cls(threshold=point[0], band_low=point[1][0], band_high=point[1][1]) if point else None


class ModelWhole(ModelAnswer):
    shadow: ShadowAnswer | None = Field(description="Null where the newest report has no image of one's own site")
    operating_point: OperatingPointAnswer | None = Field(
        description="One's own hospital's; null where it decides as the version was registered"
    )
    config: dict[str, Any]
    metrics: dict[str, Any]


@blueprint.get("")
@needs(Scope.READ)
@blueprint.output(ModelList)
@blueprint.doc(summary="The registered versions, newest first")
def index() -> ModelList:
    with parts().database.read() as session:
        aliases, last = registry.aliases(session), promotions.latest(session)
        found = [ModelAnswer.of(session, model, aliases) for model in registry.newest(session)]
        return ModelList(data=found, promotion=PromotionAnswer.of(last) if last else None)


@blueprint.get("/<version>")
@needs(Scope.READ)
@blueprint.output(ModelWhole)
@blueprint.doc(summary="One version with its configuration and figures", responses=[404])
def one(version: str) -> ModelWhole:
    with refusing(), parts().database.read() as session:
        model = registry.find(session, version)
        answer = ModelAnswer.of(session, model, registry.aliases(session))
        seen = shadows.report(session, version)
        shadow = ShadowAnswer.of(seen, parts().tenant) if seen else None
        config = _seen_by(parts().tenant, model.config)
        point = OperatingPointAnswer.of(session, version, parts().tenant)
        return ModelWhole(**dict(answer), shadow=shadow, operating_point=point, config=config, metrics=model.metrics)


def _seen_by(tenant: str, config: dict[str, Any]) -> dict[str, Any]:
    """Which other hospitals gave labels is nobody's business, and how many they gave is the installation's alone."""
    labels = config.get("labels")
    if labels is None:
        return config
    own = {name: images for name, images in labels["hospitals"].items() if name == tenant}
    if tenant == DEFAULT:
        return config | {"labels": labels | {"hospitals": own}}
    # The histograms count the images of all: less those of the version before, they say how many came in.
    told = {name: value for name, value in config.items() if name != "reference"}
    return told | {"labels": {"run": labels["run"], "hospitals": own}}


@blueprint.post("/<version>/promote")
@needs(Scope.ADMIN)
@of_the_installation
@blueprint.input(Approval, arg_name="approval")
@blueprint.output(AskedAnswer)
@blueprint.doc(summary="Let it become champion, once a worker has tried it", responses=[404, 409, 422])
def promote(version: str, approval: Approval) -> AskedAnswer:
    own = parts()
    with refusing(), own.system.write() as session:
        found = promotions.ask(session, version, who=approval.who, reason=approval.reason, actor=who())
        left = operating_points.left_behind(session, found.previous, version)
        answer = AskedAnswer(**dict(PromotionAnswer.of(found)), points_left=left)
    own.tickets.ring_succession()
    current_app.logger.info("%s is to become champion", version)
    return answer


@blueprint.post("/<version>/rollback")
@needs(Scope.ADMIN)
@of_the_installation
@blueprint.input(Approval, arg_name="approval")
@blueprint.output(PromotionAnswer)
@blueprint.doc(
    summary="Make the one champion again that this champion replaced, at once, or withdraw this one's promotion",
    responses=[404, 409],
)
def rollback(version: str, approval: Approval) -> PromotionAnswer:
    with refusing(), parts().system.write() as session:
        registry.find(session, version)
        found = promotions.roll_back(session, version, who=approval.who, reason=approval.reason, actor=who())
        answer = PromotionAnswer.of(found)
    current_app.logger.info("rolled back from %s to %s", version, answer.version)
    return answer


@contextmanager
def refusing() -> Iterator[None]:
    """What the registry refuses, as problems."""
    try:
        yield
    except registry.VersionUnknown as error:
        raise Problem(404, "model_unknown", "There is no model of this version; GET /v1/models lists them.") from error
    except promotions.AlreadyChampion as error:
        raise Problem(409, "already_champion", "This version is the champion.") from error
    except promotions.PromotionPending as error:
        words = "A promotion waits for a worker to try it; GET /v1/models shows it."
        raise Problem(409, "promotion_pending", words, retryable=True) from error
    except promotions.NothingToRollBack as error:
        raise Problem(409, "nothing_to_roll_back", f"{error}.") from error
    except promotions.NotJudged as error:
        raise Problem(422, "not_judged", f"Evaluate first: {error}.") from error
    except promotions.GateRefused as error:
        words = f"The gate refuses this version: {error}."
        raise Problem(422, "gate_refused", words, findings=error.findings) from error
