"""What the doctor found of one thing."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNSEEN = "not checked"


@dataclass(frozen=True)
class Finding:
    """One thing, what was seen of it, and, unless it is well, what to do."""

    what: str
    state: State
    seen: str
    mend: str = ""


def well(what: str, seen: str) -> Finding:
    return Finding(what, State.OK, seen)


def warning(what: str, seen: str, mend: str) -> Finding:
    return Finding(what, State.WARNING, seen, mend)


def failed(what: str, seen: str, mend: str) -> Finding:
    return Finding(what, State.FAILED, seen, mend)


def unseen(what: str, seen: str) -> Finding:
    return Finding(what, State.UNSEEN, seen)
