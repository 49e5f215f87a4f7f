"""Whether the audit holds: a walk along every chain, in the database or as somebody else read it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.audit import digest, genesis
from db.chains import AuditHead, AuditRow

PRUNED = "audit.pruned"

Signed = Mapping[tuple[str, int], str]
"""What rows, by tenant and number, hashed to when they were the last of their chain."""


class End(Protocol):
    """Where a chain ends, and how many of its first rows were given up."""

    @property
    def tenant(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def hash(self) -> str: ...
    @property
    def pruned(self) -> int: ...


@dataclass(frozen=True)
class Verdict:
    """How many rows hold, and what is wrong with the first that does not.

    `pruned` are the checkpoints in place of rows that retention removed: whoever has the key checks who signed them.
    """

    rows: int
    problem: str | None
    pruned: tuple[Mapping[str, Any], ...] = ()


def verify(session: Session, signed: Signed | None = None) -> Verdict:
    """Walk every chain; an edit, deletion, swap or truncation breaks it.

    `signed` is from outside this database: without it, a chain that was written anew from some row on, with its
    head, would hold.
    """
    signed = signed or {}
    heads = {head.tenant: head for head in session.scalars(select(AuditHead).order_by(AuditHead.tenant))}
    problem = _lost(session, heads, {tenant for tenant, _ in signed})
    rows = 0
    pruned: list[Mapping[str, Any]] = []
    for tenant, head in heads.items():
        statement = select(AuditRow.__table__).where(AuditRow.tenant == tenant, AuditRow.seq > head.pruned)
        with session.execute(statement.order_by(AuditRow.seq).execution_options(yield_per=1_000)) as found:
            verdict = verify_chain(head, found.mappings(), signed)
        rows += verdict.rows
        pruned += verdict.pruned
        problem = problem or verdict.problem
        if problem:
            break
    return Verdict(rows, problem, tuple(pruned))


def verify_chain(end: End, rows: Iterable[Mapping[Any, Any]], signed: Signed) -> Verdict:
    """Walk along one chain from the first row that is left to its end."""
    walk = _Walk(end, {seq: told for (of, seq), told in signed.items() if of == end.tenant})
    wrong = walk.along(rows)
    problem = f"{end.tenant}: {wrong}" if wrong else None
    return Verdict(walk.rows, problem, (walk.checkpoint,) if walk.checkpoint else ())


def _lost(session: Session, heads: Mapping[str, AuditHead], signed: Iterable[str]) -> str | None:
    """Chains that were signed and are gone, and rows that no head knows of."""
    for tenant in sorted(set(signed) - set(heads)):
        return f"{tenant}: the chain was signed, and is gone"
    strays = select(AuditRow.tenant).where(AuditRow.tenant.not_in(list(heads))).limit(1)
    stray = session.scalars(strays).first()
    return None if stray is None else f"{stray}: there are rows, and no head"


class _Walk:
    """Along one chain, from its first row or from what retention left of it."""

    def __init__(self, head: End, signed: Mapping[int, str]) -> None:
        self._head = head
        self._signed = {seq: told for seq, told in signed.items() if seq >= head.pruned}
        self._previous = genesis(head.tenant)
        self._begins_after = self._previous
        self.rows = 0
        self.checkpoint: Mapping[str, Any] | None = None

    def along(self, rows: Iterable[Mapping[Any, Any]]) -> str | None:
        """Return what is wrong with the first row that does not hold, or with the end."""
        for row in rows:
            at = self._head.pruned + self.rows + 1
            if row["seq"] != at:
                return f"row {at} is missing"
            if self._head.pruned and not self.rows:
                self._previous = self._begins_after = row["previous_hash"]
            if row["previous_hash"] != self._previous or row["hash"] != digest(row):
                return f"row {at} was changed"
            if self._signed.get(at, row["hash"]) != row["hash"]:
                return f"row {at} is not the one that was signed"
            if row["action"] == PRUNED:
                self.checkpoint = json.loads(row["detail"])["head"]
            self._previous = row["hash"]
            self.rows += 1
        return self._at_the_end()

    def _at_the_end(self) -> str | None:
        last = self._head.pruned + self.rows
        if (self._head.seq, self._head.hash) != (last, self._previous):
            return f"the head names row {self._head.seq}, the chain ends at {last}"
        if max(self._signed, default=0) > last:
            return f"row {max(self._signed)} was signed, the chain ends at {last}"
        return self._at_the_beginning() if self._head.pruned else None

    def _at_the_beginning(self) -> str | None:
        """What retention removed must end with the row that its checkpoint names."""
        pruned, begins = self._head.pruned, self._begins_after
        told = (self.checkpoint["seq"], self.checkpoint["hash"]) if self.checkpoint else None
        if told != (pruned, begins) or self._signed.get(pruned, begins) != begins:
            return f"the rows up to {pruned} are gone, and no checkpoint stands for them"
        return None
