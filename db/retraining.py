"""Retraining runs: from the labels of that day to a candidate."""

from typing import Any, ClassVar

from sqlalchemy import Boolean, CheckConstraint, ForeignKey, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from db import runs
from db.runs import Run


class RetrainingRun(Run):
    """One run; `version` is the candidate that it registered."""

    __tablename__ = "retraining_runs"
    named: ClassVar[str] = "retraining"
    new_images: Mapped[int | None] = mapped_column(Integer)
    left_out: Mapped[int | None] = mapped_column(Integer)
    epoch: Mapped[int] = mapped_column(Integer, default=0)
    epochs: Mapped[int | None] = mapped_column(Integer)
    version: Mapped[str | None] = mapped_column(Text, ForeignKey("models.version"))
    passed: Mapped[bool | None] = mapped_column(Boolean)
    __table_args__ = (
        *runs.rules(),
        CheckConstraint("(state = 'succeeded') = (version IS NOT NULL)", name="success_has_version"),
    )

    def reached(self) -> dict[str, Any]:
        return {"after_epoch": self.epoch}
