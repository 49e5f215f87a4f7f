"""Reclassification runs: every result of one model version, seen anew by another."""

from collections.abc import Mapping
from typing import Any, ClassVar

from sqlalchemy import JSON, Boolean, CheckConstraint, ForeignKey, Integer, Text
from sqlalchemy.orm import Mapped, Session, mapped_column

from db import registry, runs
from db.runs import Run


class ReclassificationRun(Run):
    """One run. What it came to is kept in the transactions that amend, so that nothing is counted twice or lost.

    `after_result` is the last one that it saw; `changes` are numbers of images by the label before and the label after,
    `missing` those that could not be seen anew, by code.
    """

    __tablename__ = "reclassification_runs"
    named: ClassVar[str] = "reclassification"
    old_version: Mapped[str] = mapped_column(Text, ForeignKey("models.version"))
    new_version: Mapped[str] = mapped_column(Text, ForeignKey("models.version"))
    dry_run: Mapped[bool] = mapped_column(Boolean)
    total: Mapped[int | None] = mapped_column(Integer)
    done: Mapped[int] = mapped_column(Integer, default=0)
    after_result: Mapped[str] = mapped_column(Text, default="")
    changes: Mapped[Mapping[str, Mapping[str, int]]] = mapped_column(JSON, default=dict)
    missing: Mapped[Mapping[str, int]] = mapped_column(JSON, default=dict)
    __table_args__ = (
        *runs.rules(),
        CheckConstraint("old_version <> new_version", name="versions_differ"),
    )

    def reached(self) -> dict[str, Any]:
        return {"after_images": self.done}


class SameVersion(Exception):
    """A version sees nothing anew of what it said itself."""


def ask(session: Session, *, old_version: str, new_version: str, dry_run: bool, actor: str) -> ReclassificationRun:
    """Queue a run. Raises SameVersion, VersionUnknown, RunUnfinished."""
    for version in (old_version, new_version):
        registry.find(session, version)
    if old_version == new_version:
        raise SameVersion(old_version)
    wanted = {"old_version": old_version, "new_version": new_version, "dry_run": dry_run}
    return runs.ask(session, ReclassificationRun, actor=actor, **wanted)
