"""What every run of the trainer answers, and how it is stopped, whatever its kind."""

from datetime import datetime
from typing import Annotated, Generic, Self, TypeVar

from flask import current_app
from pydantic import BaseModel, ConfigDict, Field

from api.batches import Query
from api.problems import Problem
from api.wiring import parts, who
from db import runs
from db.runs import Run, RunFinished, RunState


class RunAnswer(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    id: str
    state: RunState
    actor: str = Field(description="Who asked for it")
    cancelling: bool
    attempts: int = Field(description="How many trainers have begun it; one that died is followed by another")
    problem: str | None = Field(description="Why it failed")
    asked_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, run: Run) -> Self:
        return cls(**{name: getattr(run, name) for name in cls.model_fields})


class RunsQuery(Query):
    """What each kind's own adds `after` to, for an id says its kind."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: str | None = None


Answer = TypeVar("Answer", bound=RunAnswer)


class RunPage(BaseModel, Generic[Answer]):
    data: list[Answer]
    has_more: bool
    after: str | None = Field(description="Pass as `after` for the next page")


def page(kind: type[Run], answer: type[Answer], query: RunsQuery) -> RunPage[Answer]:
    with parts().database.read() as session:
        found = [answer.of(run) for run in runs.newest(session, kind, limit=query.limit + 1, after=query.after)]
    data, more = found[: query.limit], len(found) > query.limit
    return RunPage(data=data, has_more=more, after=data[-1].id if more else None)


def standing(kind: type[Run], run_id: str, answer: type[Answer], *, unknown: Problem) -> Answer:
    """Return how the run stands, or raise `unknown`."""
    with parts().database.read() as session:
        run = runs.find(session, kind, run_id)
        if run is None:
            raise unknown
        return answer.of(run)


def stop(kind: type[Run], run_id: str, *, unknown: Problem, finished: Problem) -> None:
    """Ask the run to end, or raise `unknown` or `finished`."""
    with parts().system.write() as session:
        if runs.find(session, kind, run_id) is None:
            raise unknown
        try:
            runs.cancel(session, kind, run_id, actor=who())
        except RunFinished as error:
            raise finished from error
    current_app.logger.info("%s is to be cancelled", run_id)
