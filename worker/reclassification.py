"""Recall: every result of one model version seen anew by another, beside the originals."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from db import amendments
from db.amendments import Outdated
from db.blobs import Blobs
from db.database import Database
from db.queue import Finding
from db.tables import Label
from worker.decoders import Decoded, Decoders
from worker.examination import examine
from worker.judge import Judge
from worker.models import Models
from worker.rejection import ImageRejected


@dataclass
class Report:
    """What a run came to; `changes` counts (label before, label after), `missing` the images that could not be seen anew."""

    changes: Counter[tuple[Label, Label]] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Reclassification:
    """Goes through the results of `old` and amends each by `new`; killed and begun again, it goes on where it was."""

    database: Database
    blobs: Blobs
    decoders: Decoders
    models: Models
    judge: Judge
    together: int

    def run(
        self, old: str, new: str, *, actor: str, worker: str, dry: bool, on_progress: Callable[[int], object]
    ) -> Report:
        """Amend all, or only count what would change. Raises ModelUnusable before anything is amended."""
        self.models.get(new)
        report, after = Report(), ""
        while some := self._next(old, new, after):
            after = some[-1].result_id
            seen = self._seen(new, some, report)
            if seen and dry:
                report.changes.update((before.label, finding.label) for before, finding in seen)
            elif seen:
                with self.database.write() as session:
                    report.changes.update(amendments.store(session, old, new, seen, actor=actor, worker=worker))
            on_progress(len(some))
        return report

    def _next(self, old: str, new: str, after: str) -> list[Outdated]:
        with self.database.read() as session:
            return amendments.outdated(session, old, new, after=after, limit=self.together)

    def _seen(self, new: str, some: Sequence[Outdated], report: Report) -> list[tuple[Outdated, Finding]]:
        """What the new version says of those images that are still there."""
        here = [one for one in some if self._is_here(one, report)]
        answers = self.decoders.decode([self.blobs.path(one.image.sha256) for one in here]) if here else []
        readable: list[tuple[Outdated, Decoded]] = []
        for one, answer in zip(here, answers, strict=True):
            if isinstance(answer, ImageRejected):
                report.missing[answer.code] += 1
            else:
                readable.append((one, answer))
        if not readable:
            return []
        findings, failures = examine(self.models, self.judge, new, [(one.image, told) for one, told in readable])
        report.missing.update(failure.code for failure in failures)
        originals = {one.image.id: one for one, _ in readable}
        return [(originals[finding.image.id], finding) for finding in findings]

    def _is_here(self, one: Outdated, report: Report) -> bool:
        if self.blobs.path(one.image.sha256).exists():
            return True
        report.missing["purged" if one.purged_at else "image_lost"] += 1
        return False
