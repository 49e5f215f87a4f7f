"""A result, computed again: a worker does it, asked by a ticket, and what it found stands in the audit."""

import json
from typing import Self

from apiflask import APIBlueprint
from pydantic import BaseModel, Field

from api.access import needs
from api.batches import Query
from api.findings import find
from api.wiring import parts, who
from db import audit, trail
from db.chains import AuditHead, AuditRow
from db.keys import Scope
from db.trail import Search

blueprint = APIBlueprint("verifications", __name__, url_prefix="/v1/results", tag="Audit")


class Asked(BaseModel):
    after: str = Field(description="Pass to GET: what stands behind this row of the audit is newer than the request")


class VerificationQuery(Query):
    after: str | None = Field(default=None, pattern="^[0-9]{1,18}$", description="Only newer ones than this row")


class Verification(BaseModel):
    """What a worker found when it computed the result again."""

    seq: int = Field(description="The row of the audit that holds it")
    at: str
    actor: str = Field(description="Who asked")
    confirmed: bool | None = Field(description="null: it cannot be computed any more, which says nothing about it")
    reason: str | None = Field(default=None, description="Why not")
    kept_raw_probability: float | None = None
    raw_probability: float | None = None
    difference: float | None = None
    tolerance: float | None = None
    differences: list[str] = []

    @classmethod
    def of(cls, row: AuditRow) -> Self:
        return cls(seq=row.seq, at=row.at, actor=row.actor, **json.loads(row.detail))


class VerificationList(BaseModel):
    data: list[Verification]


@blueprint.post("/<result_id>/verifications")
@needs(Scope.AUDIT)
@blueprint.output(Asked, status_code=202)
@blueprint.doc(
    summary="Let a worker compute the result again from the stored bytes and compare; ask GET for what it found",
    responses=[404, 410],
)
def ask(result_id: str) -> Asked:
    with parts().database.read() as session:
        find(session, result_id)
        after = session.get_one(AuditHead, parts().tenant).seq
    parts().tickets.verify(result_id, actor=who(), origin=audit.ORIGIN.get())
    return Asked(after=str(after))


@blueprint.get("/<result_id>/verifications")
@needs(Scope.AUDIT)
@blueprint.input(VerificationQuery, location="query", arg_name="query")
@blueprint.output(VerificationList)
@blueprint.doc(summary="What was found each time the result was computed again, oldest first", responses=[404, 410])
def index(result_id: str, query: VerificationQuery) -> VerificationList:
    search = Search(action="result.verified", subject=result_id)
    with parts().database.read() as session:
        found = find(session, result_id)
        rows = [Verification.of(row) for row in trail.rows(session, search, after=int(query.after or 0))]
    if rows:
        parts().looks.at_result(who(), found)
    return VerificationList(data=rows)
