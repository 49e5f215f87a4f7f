"""What every run of the trainer answers, whatever its kind."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from api.batches import Query
from db.runs import Run, RunState


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
    limit: Annotated[int, Field(ge=1, le=100)] = 20
