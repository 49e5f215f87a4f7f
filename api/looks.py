"""Who looked at which result: written down before it is shown, a row for each request."""

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from copy import copy
from typing import Self

from db import audit, trail
from db.audit import Entry
from db.batches import Line
from db.database import Database
from db.results import Found

_SAME_LOOK_SECONDS = 60
_REMEMBERED = 1_000


class Looks:
    """Writes looks into the audit; one that cannot be written raises, so that nothing is shown."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lately: OrderedDict[tuple[object, ...], float] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, database: Database) -> Self:
        """The same memory, writing into the chain of the hospital that this database is of."""
        theirs = copy(self)
        theirs._database = database  # noqa: SLF001 - our own
        return theirs

    def at_result(self, actor: str, found: Found) -> None:
        self._keep(actor, Entry("result.viewed", found.result.id, found.result.batch_id, {}))

    def at_lines(self, actor: str, batch_id: str, lines: Sequence[Line]) -> None:
        """Images of a batch, as they were listed; where none has a result, it is no look."""
        entry = _of_lines(batch_id, lines)
        if entry:
            self._keep(actor, entry)

    def at_page(self, actor: str, batch_id: str, lines: Sequence[Line]) -> None:
        """The same, on a page that refreshes itself: what showed nothing new for a minute is one look."""
        entry = _of_lines(batch_id, lines)
        if entry is None:
            return
        key = (actor, audit.ORIGIN.get(), batch_id, *entry.detail.values())
        if not self._is_the_same(key):
            self._keep(actor, entry)
            self._remember(key)

    def at_export(self, actor: str, batch_id: str, *, form: str) -> None:
        """All results of a batch at once."""
        self._keep(actor, Entry("results.exported", batch_id, batch_id, {"form": form}))

    def at_search(self, actor: str, found: Sequence[Found], by: Sequence[str]) -> None:
        """What a search showed; `by` names what was asked for, not its values, which may belong to a patient."""
        if found:
            detail = {"by": list(by), "results": [one.result.id for one in found]}
            self._keep(actor, Entry(trail.SEARCHED, "results", None, detail))

    def at_audit(self, actor: str, subject: str, batch_id: str | None = None) -> None:
        """The audit itself names findings."""
        self._keep(actor, Entry("audit.viewed", subject, batch_id, {}))

    def _keep(self, actor: str, entry: Entry) -> None:
        with self._database.write() as session:
            audit.append(session, actor, [entry])

    def _is_the_same(self, key: tuple[object, ...]) -> bool:
        with self._lock:
            return self._lately.get(key, 0) > time.monotonic()

    def _remember(self, key: tuple[object, ...]) -> None:
        with self._lock:
            self._lately[key] = time.monotonic() + _SAME_LOOK_SECONDS
            while len(self._lately) > _REMEMBERED:
                self._lately.popitem(last=False)


def _of_lines(batch_id: str, lines: Sequence[Line]) -> Entry | None:
    shown = [line for line in lines if line.result_id]
    if not shown:
        return None
    if len(lines) == 1:
        return Entry("result.viewed", str(shown[0].result_id), batch_id, {})
    detail = {"first_image": shown[0].id, "last_image": shown[-1].id, "results": len(shown)}
    return Entry("results.viewed", batch_id, batch_id, detail)
