"""Recall: have every result of one model version seen anew by another, follow it, stop it."""

from apiflask import APIBlueprint
from flask import current_app, url_for
from pydantic import BaseModel, Field

from api.access import needs, of_the_installation
from api.models import refusing
from api.problems import Problem
from api.runs import RunAnswer, RunPage, RunsQuery, page, standing, stop
from api.texts import Text
from api.wiring import parts, who
from db import reclassification
from db.keys import Scope
from db.reclassification import ReclassificationRun, SameVersion
from db.runs import RunUnfinished
from db.tables import Label

blueprint = APIBlueprint("reclassification", __name__, url_prefix="/v1/reclassifications", tag="Models")


class ReclassificationQuery(RunsQuery):
    after: str | None = Field(
        default=None, pattern="^reclassification_[0-9a-f]+$", description="Id of the last run seen"
    )


class Wanted(BaseModel, extra="forbid"):
    """Which results are seen anew, and by which version."""

    old_version: Text = Field(alias="model", description="The version whose results are seen anew")
    new_version: Text = Field(alias="with", description="The version that sees them anew")
    dry_run: bool = Field(default=False, description="Count what would change, and keep none of it")


class ReclassificationAnswer(RunAnswer):
    """The numbers are of the results of all hospitals."""

    old_version: str = Field(alias="model")
    new_version: str = Field(alias="with")
    dry_run: bool
    total: int | None = Field(description="Results to be seen when a trainer last began it; more may come in")
    done: int
    changes: dict[Label, dict[Label, int]] = Field(description="Images by the label before and the label after")
    missing: dict[str, int] = Field(description="Images that could not be seen anew, by code; their results stand")


class ReclassificationList(RunPage[ReclassificationAnswer]):
    """Newest first."""


@blueprint.post("")
@needs(Scope.ADMIN)
@of_the_installation
@blueprint.input(Wanted, arg_name="wanted")
@blueprint.output(ReclassificationAnswer, status_code=202)
@blueprint.doc(
    summary="Have every result of a version seen anew by another, which amends it", responses=[404, 409, 422]
)
def ask(wanted: Wanted) -> tuple[ReclassificationAnswer, int, dict[str, str]]:
    own = parts()
    try:
        with refusing(), own.system.write() as session:
            run = reclassification.ask(session, **dict(wanted), actor=who())
            answer = ReclassificationAnswer.of(run)
    except SameVersion as error:
        raise Problem(422, "same_version", "A version sees nothing anew of what it said itself.") from error
    except RunUnfinished as error:
        words = "A reclassification is unfinished; wait for it, or cancel it."
        raise Problem(409, "reclassification_unfinished", words, retryable=True, run=str(error)) from error
    own.tickets.ring_trainer()
    current_app.logger.info("%s was asked for", answer.id)
    return answer, 202, {"Location": url_for("reclassification.one", run_id=answer.id), "Retry-After": "10"}


@blueprint.get("")
@needs(Scope.READ)
@of_the_installation
@blueprint.input(ReclassificationQuery, location="query", arg_name="query")
@blueprint.output(ReclassificationList)
@blueprint.doc(summary="The reclassifications, newest first")
def index(query: ReclassificationQuery) -> RunPage[ReclassificationAnswer]:
    return page(ReclassificationRun, ReclassificationAnswer, query)


@blueprint.get("/<run_id>")
@needs(Scope.READ)
@of_the_installation
@blueprint.output(ReclassificationAnswer)
@blueprint.doc(summary="One reclassification, how far it is, and what it changed so far", responses=[404])
def one(run_id: str) -> ReclassificationAnswer:
    return _standing(run_id)


@blueprint.post("/<run_id>/cancel")
@needs(Scope.ADMIN)
@of_the_installation
@blueprint.output(ReclassificationAnswer, status_code=202)
@blueprint.doc(summary="Stop it; what it has amended so far stays", responses=[404, 409])
def cancel(run_id: str) -> ReclassificationAnswer:
    finished = Problem(409, "reclassification_finished", "The reclassification has ended.")
    stop(ReclassificationRun, run_id, unknown=_unknown(), finished=finished)
    return _standing(run_id)


def _standing(run_id: str) -> ReclassificationAnswer:
    return standing(ReclassificationRun, run_id, ReclassificationAnswer, unknown=_unknown())


def _unknown() -> Problem:
    words = "There is no reclassification of this id; GET /v1/reclassifications lists them."
    return Problem(404, "reclassification_unknown", words)
