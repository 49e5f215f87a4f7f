"""A result, computed again: a worker does it, asked by a ticket, and what it found stands in the audit."""

import json
from typing import Self

from apiflask import APIBlueprint
from pydantic import BaseModel, Field

from api.access import needs
from api.batches import Query
from api.findings import find
from api.wiring import parts, who
from db import audit, confirmation, trail
from db.audit import Entry
from db.chains import AuditHead, AuditRow
from db.keys import Scope
from db.trail import Search

blueprint = APIBlueprint("verifications", __name__, url_prefix="/v1/results", tag="Audit")


class Asked(BaseModel):
    asked: int = Field(description="The row of the audit that holds the request; pass it to GET for its answer")


class VerificationQuery(Query):
    asked: str | None = Field(default=None, pattern="^[0-9]{1,18}$", description="Only what this request led to")


class Verification(BaseModel):
    """What a worker found when it computed the result again."""

    seq: int = Field(description="The row of the audit that holds it")
    at: str
    actor: str = Field(description="Who computed: a worker, or somebody at the server's own machine")
    asked: int | None = Field(default=None, description="The row that holds the request")
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
    with parts().database.write() as session:
        found = find(session, result_id)
        audit.append(session, who(), [Entry(confirmation.ASKED, result_id, found.result.batch_id, {})])
        asked = session.get_one(AuditHead, parts().tenant, populate_existing=True).seq
    parts().tickets.verify(result_id, asked)
    return Asked(asked=asked)


@blueprint.get("/<result_id>/verifications")
@needs(Scope.AUDIT)
@blueprint.input(VerificationQuery, location="query", arg_name="query")
@blueprint.output(VerificationList)
@blueprint.doc(summary="What was found each time the result was computed again, oldest first", responses=[404, 410])
def index(result_id: str, query: VerificationQuery) -> VerificationList:
    with parts().database.read() as session:
        found = find(session, result_id)
        search = Search(action=confirmation.VERIFIED, subject=result_id, batch_id=found.result.batch_id)
        rows = [Verification.of(row) for row in trail.rows(session, search)]
    wanted = [row for row in rows if query.asked is None or row.asked == int(query.asked)]
    if wanted:
        parts().looks.at_result(who(), found)
    return VerificationList(data=wanted)
