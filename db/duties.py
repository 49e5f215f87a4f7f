"""What the trainer carries out, the most pressing first."""

from typing import Final

from sqlalchemy.orm import Session

from db import runs
from db.reclassification import ReclassificationRun
from db.retraining import RetrainingRun
from db.runs import Run

DUTIES: Final[tuple[type[Run], ...]] = (ReclassificationRun, RetrainingRun)


def claim(session: Session, *, lease_seconds: int, actor: str) -> Run | None:
    """Take the first run that waits, or whose trainer is silent, and return it; None where there is none."""
    for kind in DUTIES:
        if run := runs.claim(session, kind, lease_seconds=lease_seconds, actor=actor):
            return run
    return None


def any_unfinished(session: Session) -> bool:
    """Whether a trainer is needed."""
    return any(runs.unfinished(session, kind) for kind in DUTIES)


def any_abandoned(session: Session) -> bool:
    """Whether a run is under way that no trainer has renewed in time."""
    return any(runs.is_abandoned(session, kind) for kind in DUTIES)
