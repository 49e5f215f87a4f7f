"""Recall: every result of one model version seen anew by another, beside the originals."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from db import amendments
from db.amendments import Outdated, Seen
from db.blobs import Blobs
from db.database import Database
from db.reclassification import ReclassificationRun
from worker.decoders import Decoded, Decoders
from worker.examination import examine
from worker.judge import Judge
from worker.models import Models
from worker.rejection import ImageRejected

Note = Callable[..., None]
"""Says in a transaction how far the run is, and raises where another trainer holds it."""


@dataclass(frozen=True)
class Reclassification:
    """Goes through the results of a run's old version and amends each by the new one."""

    database: Database
    blobs: Blobs
    decoders: Decoders
    models: Models
    judge: Judge
    together: int

    def go_on(self, run: ReclassificationRun, note: Note, rest: Callable[[], object], *, worker: str) -> dict[str, Any]:
        """Go on behind the last result that was seen, to the end, and return what the run came to.

        Calls `rest` after each transaction. Raises ModelUnusable, and whatever `note` and `rest` raise.
        """
        self.models.get(run.new_version)
        after, done = run.after_result, run.done
        changes, missing = _flips(run), Counter(run.missing)
        with self.database.read() as session:
            left = amendments.count(session, run.old_version, run.new_version, after=after)
        with self.database.write() as session:
            note(session, total=done + left)
        while some := self._next(run, after):
            seen, without = self._seen(run.new_version, some)
            after, done, missing = some[-1].result_id, done + len(some), missing + without
            with self.database.write() as session:
                kept = seen if run.dry_run else amendments.store(session, run, seen, worker=worker)
                changes.update((before.label, finding.label) for before, finding in kept)
                note(session, after_result=after, done=done, changes=_nested(changes), missing=dict(missing))
            rest()
        return {"done": done, "changes": _nested(changes), "missing": dict(missing)}

    def _next(self, run: ReclassificationRun, after: str) -> list[Outdated]:
        with self.database.read() as session:
            return amendments.outdated(session, run.old_version, run.new_version, after=after, limit=self.together)

    def _seen(self, new: str, some: Sequence[Outdated]) -> tuple[list[Seen], Counter[str]]:
        """What the new version says of those images that are still there, and the codes of those that it cannot see."""
        missing, here = Counter[str](), []
        for one in some:
            if self.blobs.path(one.image.sha256).exists():
                here.append(one)
            else:
                missing["purged" if one.purged_at else "image_lost"] += 1
        answers = self.decoders.decode([self.blobs.path(one.image.sha256) for one in here]) if here else []
        readable: list[tuple[Outdated, Decoded]] = []
        for one, answer in zip(here, answers, strict=True):
            if isinstance(answer, ImageRejected):
                missing[answer.code] += 1
            else:
                readable.append((one, answer))
        if not readable:
            return [], missing
        findings, failures = examine(self.models, self.judge, new, [(one.image, told) for one, told in readable])
        missing.update(failure.code for failure in failures)
        originals = {one.image.id: one for one, _ in readable}
        return [(originals[finding.image.id], finding) for finding in findings], missing


def _flips(run: ReclassificationRun) -> Counter[tuple[str, str]]:
    """The changes so far by (label before, label after)."""
    return Counter({(before, after): number for before, to in run.changes.items() for after, number in to.items()})


def _nested(flips: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """The same as the run keeps it."""
    nested: dict[str, dict[str, int]] = {}
    for (before, after), number in sorted(flips.items()):
        nested.setdefault(before, {})[after] = number
    return nested
