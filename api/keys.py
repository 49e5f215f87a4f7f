"""The keys of one's own hospital: list, make, revoke. Those of others, and tenants, are the operator's: `cxr key`."""

from datetime import datetime
from typing import Annotated

from apiflask import APIBlueprint
from flask import Response, current_app
from pydantic import BaseModel, Field

from api import once
from api.access import needs
from api.problems import Problem
from api.texts import Text
from api.wiring import parts, who
from db import clock, keys
from db.keys import ApiKey, KeyState, Scope

blueprint = APIBlueprint("keys", __name__, url_prefix="/v1/keys", tag="Keys")


class KeyAsked(BaseModel, extra="forbid"):
    name: Annotated[Text, Field(max_length=200)] = Field(description="Whose it is, for people")
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))]
    days: Annotated[int, Field(ge=keys.SHORTEST_DAYS, le=keys.LONGEST_DAYS)] = Field(
        default=keys.DAYS, description="Until it expires"
    )


class KeyAnswer(BaseModel):
    id: str
    name: str
    tenant: str
    scopes: list[Scope]
    state: KeyState
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = Field(description="To the hour")

    @classmethod
    def of(cls, key: ApiKey, present: datetime) -> "KeyAnswer":
        told = {name: getattr(key, name) for name in cls.model_fields if name != "state"}
        return cls(**told, state=keys.state(key, present))


class KeyMade(KeyAnswer):
    key: str | None = Field(description="The key itself, shown this once; null where the request was repeated")


class KeyList(BaseModel):
    data: list[KeyAnswer]


@blueprint.get("")
@needs(Scope.ADMIN)
@blueprint.output(KeyList)
@blueprint.doc(summary="The keys of this hospital, oldest first, without their secrets")
def index() -> KeyList:
    with parts().database.read() as session:
        present = clock.read(session)
        return KeyList(data=[KeyAnswer.of(key, present) for key in keys.every(session)])


@blueprint.post("")
@needs(Scope.ADMIN)
@blueprint.input(KeyAsked, arg_name="asked")
@blueprint.output(KeyMade, status_code=201)
@blueprint.doc(summary="Make a key for this hospital; a repeated request does not show it again")
def create(asked: KeyAsked) -> KeyMade:
    once.keep_without("key")
    own = parts()
    with own.database.write() as session:
        made = keys.create(session, own.tenant, set(asked.scopes), name=asked.name, actor=who(), days=asked.days)
        key = keys.find(session, keys.id_of(made))
        answer = KeyMade(**dict(KeyAnswer.of(key, clock.read(session))), key=made)
    current_app.logger.info("made key %s", answer.id)
    return answer


@blueprint.delete("/<key_id>")
@needs(Scope.ADMIN)
@blueprint.output({}, status_code=204)
@blueprint.doc(summary="Close a key from now on; browsers that signed in with it are signed out", responses=[404])
def revoke(key_id: str) -> Response:
    try:
        with parts().database.write() as session:
            keys.revoke(session, key_id if key_id.isprintable() else "", actor=who())
    except keys.KeyUnknown as error:
        raise Problem(404, "key_unknown", "This hospital has no key of this id.") from error
    current_app.logger.info("revoked key %s", key_id if key_id.isalnum() else "?")
    return Response(status=204)
