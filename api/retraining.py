"""Retraining: ask for a run, follow it, stop it."""

from apiflask import APIBlueprint
from flask import current_app, url_for
from pydantic import Field

from api.access import needs, of_the_installation
from api.problems import Problem
from api.runs import RunAnswer, RunPage, RunsQuery, page, standing, stop
from api.wiring import parts, who
from db import runs
from db.keys import Scope
from db.retraining import RetrainingRun
from db.runs import RunUnfinished

blueprint = APIBlueprint("retraining", __name__, url_prefix="/v1/retraining-runs", tag="Models")


class RetrainingQuery(RunsQuery):
    after: str | None = Field(default=None, pattern="^retraining_[0-9a-f]+$", description="Id of the last run seen")


class RetrainingAnswer(RunAnswer):
    """`actor` is `schedule` where the clock asked."""

    new_images: int | None = Field(description="Stored images with a label that it trains on")
    left_out: int | None = Field(description="Labelled images that cannot be used: broken, or of the frozen fold")
    epoch: int
    epochs: int | None
    version: str | None = Field(description="The candidate that it registered")
    passed: bool | None = Field(description="Whether the candidate passed the gate")


class RetrainingList(RunPage[RetrainingAnswer]):
    """Newest first."""


@blueprint.post("")
@needs(Scope.ADMIN)
@of_the_installation
@blueprint.output(RetrainingAnswer, status_code=202)
@blueprint.doc(summary="Train a candidate on the base data and the labels so far", responses=[409])
def ask() -> tuple[RetrainingAnswer, int, dict[str, str]]:
    own = parts()
    try:
        with own.system.write() as session:
            answer = RetrainingAnswer.of(runs.ask(session, RetrainingRun, actor=who()))
    except RunUnfinished as error:
        words = "A run is unfinished; wait for it, or cancel it."
        raise Problem(409, "retraining_unfinished", words, retryable=True, run=str(error)) from error
    own.tickets.ring_trainer()
    current_app.logger.info("%s was asked for", answer.id)
    return answer, 202, {"Location": url_for("retraining.one", run_id=answer.id), "Retry-After": "10"}


@blueprint.get("")
@needs(Scope.READ)
@of_the_installation
@blueprint.input(RetrainingQuery, location="query", arg_name="query")
@blueprint.output(RetrainingList)
@blueprint.doc(summary="The runs, newest first")
def index(query: RetrainingQuery) -> RunPage[RetrainingAnswer]:
    return page(RetrainingRun, RetrainingAnswer, query)


@blueprint.get("/<run_id>")
@needs(Scope.READ)
@of_the_installation
@blueprint.output(RetrainingAnswer)
@blueprint.doc(summary="One run and how far it is", responses=[404])
def one(run_id: str) -> RetrainingAnswer:
    return _standing(run_id)


@blueprint.post("/<run_id>/cancel")
@needs(Scope.ADMIN)
@of_the_installation
@blueprint.output(RetrainingAnswer, status_code=202)
@blueprint.doc(summary="Stop a run after its present epoch", responses=[404, 409])
def cancel(run_id: str) -> RetrainingAnswer:
    finished = Problem(409, "retraining_finished", "The run has ended.")
    stop(RetrainingRun, run_id, unknown=_unknown(), finished=finished)
    return _standing(run_id)


def _standing(run_id: str) -> RetrainingAnswer:
    return standing(RetrainingRun, run_id, RetrainingAnswer, unknown=_unknown())


def _unknown() -> Problem:
    return Problem(404, "retraining_unknown", "There is no run of this id; GET /v1/retraining-runs lists them.")
