"""The audit over HTTP: its rows by filters, and the life of one result."""

import json
from enum import StrEnum
from typing import Annotated, Any, Self

from apiflask import APIBlueprint
from flask import g
from pydantic import BaseModel, Field

from api.access import must_be_the_installations, needs
from api.batches import Query
from api.findings import find
from api.moments import When
from api.schemas import ResultAnswer
from api.wiring import parts, who
from db import tenancy, trail
from db.chains import AuditHead, AuditRow
from db.database import Database
from db.keys import Scope
from db.trail import Search

blueprint = APIBlueprint("trail", __name__, url_prefix="/v1", tag="Audit")

_Text = Annotated[str | None, Field(max_length=200)]


class Chain(StrEnum):
    OWN = "own"
    INSTALLATION = "installation"


class ChainQuery(Query):
    chain: Chain = Field(
        default=Chain.OWN,
        description="`installation`: what belongs to no hospital, as models, promotions and tenants; for keys of the tenant `default`",
    )


class AuditQuery(ChainQuery):
    actor: _Text = None
    action: _Text = None
    subject: _Text = None
    batch_id: _Text = None
    origin: _Text = None
    since: When | None = Field(default=None, alias="from", description="Then and later")
    until: When | None = Field(default=None, alias="to", description="Before then")
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: str | None = Field(default=None, pattern="^[0-9]{1,18}$", description="`after` of the page before")


class AuditEvent(BaseModel):
    """One row as it stands in the chain; `hash` covers everything else in it and the row before."""

    tenant: str = Field(description="Whose chain")
    seq: int
    at: str
    actor: str = Field(description="Who")
    origin: str | None = Field(description="From where: the address of the request; null where a worker acted")
    action: str
    subject: str = Field(description="What it was done to")
    batch_id: str | None
    detail: dict[str, Any]
    previous_hash: str
    hash: str

    @classmethod
    def of(cls, row: AuditRow) -> Self:
        values = {name: getattr(row, name) for name in cls.model_fields}
        return cls(**values | {"detail": json.loads(row.detail)})


class AuditEnd(BaseModel):
    """Where a hospital's chain ends now; the next row, that of this request too, goes behind it."""

    tenant: str
    seq: int
    hash: str
    pruned: int = Field(description="Up to this row they were removed by retention")


class AuditPage(BaseModel):
    data: list[AuditEvent]
    has_more: bool
    after: str | None = Field(description="Pass as `after` for the next page")


class Step(BaseModel):
    at: str
    action: str
    actor: str
    origin: str | None
    detail: dict[str, Any]
    seq: int = Field(description="The row of the audit that tells it")


class History(BaseModel):
    result: ResultAnswer
    steps: list[Step] = Field(description="Oldest first: submitted, claimed, classified, looked at, amended, purged")


@blueprint.get("/audit")
@needs(Scope.AUDIT)
@blueprint.input(AuditQuery, location="query", arg_name="query")
@blueprint.output(AuditPage)
@blueprint.doc(summary="The audit, oldest row first; reading it leaves a row too")
def index(query: AuditQuery) -> AuditPage:
    database, tenant = _of(query.chain)
    parts().looks.at_audit(who(), "audit" if query.chain is Chain.OWN else "audit of the installation")
    wanted = {name: getattr(query, name) for name in Search.__dataclass_fields__ if name != "tenant"}
    search = Search(tenant=tenant, **wanted)
    with database.read() as session:
        found = list(trail.rows(session, search, after=int(query.after or 0), limit=query.limit + 1))
        page = [AuditEvent.of(row) for row in found[: query.limit]]
    more = len(found) > query.limit
    return AuditPage(data=page, has_more=more, after=str(page[-1].seq) if more else None)


@blueprint.get("/audit/head")
@needs(Scope.AUDIT)
@blueprint.input(ChainQuery, location="query", arg_name="query")
@blueprint.output(AuditEnd)
@blueprint.doc(summary="Where the audit ends: read it up to here, and compute every hash again")
def head(query: ChainQuery) -> AuditEnd:
    database, tenant = _of(query.chain)
    with database.read() as session:
        end = session.get_one(AuditHead, tenant)
        return AuditEnd(tenant=end.tenant, seq=end.seq, hash=end.hash, pruned=end.pruned)


def _of(chain: Chain) -> tuple[Database, str]:
    """Who may read the rows of a chain, and whose they are. Raises Problem for a hospital that asks for the installation's."""
    if chain is Chain.OWN:
        return parts().database, parts().tenant
    must_be_the_installations(g.caller)
    return parts().system, tenancy.SYSTEM


@blueprint.get("/results/<result_id>/history")
@needs(Scope.AUDIT)
@blueprint.output(History)
@blueprint.doc(summary="The life of one result, from its submission to the last look at it", responses=[404])
def history(result_id: str) -> History:
    with parts().database.read() as session:
        batch_id = find(session, result_id).result.batch_id
    parts().looks.at_audit(who(), result_id, batch_id)
    with parts().database.read() as session:
        found = find(session, result_id)
        steps = [step for row in trail.life(session, found) for step in _steps(row)]
        return History(result=ResultAnswer.of(found), steps=steps)


def _steps(row: AuditRow) -> list[Step]:
    """A row, and before it the claim that it ends: leases leave no row of their own."""
    detail = json.loads(row.detail)
    told = Step(at=row.at, action=row.action, actor=row.actor, origin=row.origin, detail=detail, seq=row.seq)
    if "claimed_at" not in detail:
        return [told]
    claim = {name: detail[name] for name in ("attempt", "model_version") if name in detail}
    return [told.model_copy(update={"at": detail["claimed_at"], "action": "image.claimed", "detail": claim}), told]
