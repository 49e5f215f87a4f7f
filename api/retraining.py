"""Retraining: ask for a run, follow it, stop it."""

from datetime import datetime
from typing import Annotated

from apiflask import APIBlueprint
from flask import current_app, url_for
from pydantic import BaseModel, Field

from api.access import needs, of_the_installation
from api.batches import Query
from api.problems import Problem
from api.wiring import parts, who
from db import retraining
from db.keys import Scope
from db.retraining import RetrainingRun, RunState

blueprint = APIBlueprint("retraining", __name__, url_prefix="/v1/retraining-runs", tag="Models")


class RunAnswer(BaseModel):
    id: str
    state: RunState
    actor: str = Field(description="Who asked for it: `schedule` is the clock")
    cancelling: bool
    attempts: int = Field(description="How many trainers have begun it; one that died is followed by another")
    new_images: int | None = Field(description="Stored images with a label that it trains on")
    left_out: int | None = Field(description="Labelled images that cannot be used: broken, or of the frozen fold")
    epoch: int
    epochs: int | None
    version: str | None = Field(description="The candidate that it registered")
    passed: bool | None = Field(description="Whether the candidate passed the gate")
    problem: str | None
    asked_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, run: RetrainingRun) -> "RunAnswer":
        return cls(**{name: getattr(run, name) for name in cls.model_fields})


class RunList(BaseModel):
    data: list[RunAnswer]


class RunsQuery(Query):
    limit: Annotated[int, Field(ge=1, le=100)] = 20


@blueprint.post("")
@needs(Scope.ADMIN)
@of_the_installation
@blueprint.output(RunAnswer, status_code=202)
@blueprint.doc(summary="Train a candidate on the base data and the labels so far", responses=[409])
def ask() -> tuple[RunAnswer, int, dict[str, str]]:
    own = parts()
    try:
        with own.system.write() as session:
            answer = RunAnswer.of(retraining.ask(session, actor=who()))
    except retraining.RunUnfinished as error:
        words = "A run is unfinished; wait for it, or cancel it."
        raise Problem(409, "retraining_unfinished", words, retryable=True, run=str(error)) from error
    own.tickets.ring_trainer()
    current_app.logger.info("%s was asked for", answer.id)
    return answer, 202, {"Location": url_for("retraining.one", run_id=answer.id), "Retry-After": "10"}


@blueprint.get("")
@needs(Scope.READ)
@blueprint.input(RunsQuery, location="query", arg_name="query")
@blueprint.output(RunList)
@blueprint.doc(summary="The newest runs")
def index(query: RunsQuery) -> RunList:
    with parts().database.read() as session:
        return RunList(data=[RunAnswer.of(run) for run in retraining.newest(session, limit=query.limit)])


@blueprint.get("/<run_id>")
@needs(Scope.READ)
@blueprint.output(RunAnswer)
@blueprint.doc(summary="One run and how far it is", responses=[404])
def one(run_id: str) -> RunAnswer:
    return _standing(run_id)


@blueprint.post("/<run_id>/cancel")
@needs(Scope.ADMIN)
@of_the_installation
@blueprint.output(RunAnswer, status_code=202)
@blueprint.doc(summary="Stop a run after its present epoch", responses=[404, 409])
def cancel(run_id: str) -> RunAnswer:
    with parts().system.write() as session:
        if not run_id.isprintable() or retraining.find(session, run_id) is None:
            raise _unknown()
        try:
            retraining.cancel(session, run_id, actor=who())
        except retraining.RunFinished as error:
            raise Problem(409, "retraining_finished", "The run has ended.") from error
    current_app.logger.info("%s is to be cancelled", run_id)
    return _standing(run_id)


def _standing(run_id: str) -> RunAnswer:
    with parts().database.read() as session:
        run = retraining.find(session, run_id) if run_id.isprintable() else None
        if run is None:
            raise _unknown()
        return RunAnswer.of(run)


def _unknown() -> Problem:
    return Problem(404, "retraining_unknown", "There is no run of this id; GET /v1/retraining-runs lists them.")
