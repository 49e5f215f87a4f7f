"""Webhooks: register an address, see what it was told, remove it."""

from datetime import datetime
from typing import Annotated

from apiflask import APIBlueprint
from flask import Response, current_app, url_for
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api import once
from api.access import needs
from api.batches import Query
from api.problems import Problem
from api.wiring import parts, who
from db import webhooks
from db.keys import Scope
from db.webhooks import Delivery, DeliveryState, Event, TooManyWebhooks, Webhook
from worker import addresses

blueprint = APIBlueprint("webhooks", __name__, url_prefix="/v1/webhooks", tag="Webhooks")


class WebhookAsked(BaseModel, extra="forbid"):
    url: str = Field(
        max_length=2000,
        description="Where messages are posted: https, and no private address",
        json_schema_extra={"format": "uri", "examples": ["https://93.184.216.34/hook"]},
    )
    events: Annotated[list[Event], Field(min_length=1, max_length=len(Event))] = Field(
        default_factory=lambda: list(Event), description="What is told; all of it unless given"
    )


class WebhookAnswer(BaseModel):
    id: str
    url: str
    events: list[Event]
    created_at: datetime

    @classmethod
    def of(cls, webhook: Webhook) -> "WebhookAnswer":
        return cls(
            id=webhook.id, url=webhook.url, events=list(map(Event, webhook.events)), created_at=webhook.created_at
        )


class WebhookMade(WebhookAnswer):
    secret: str | None = Field(description="Signs every message; shown this once; null where the request was repeated")


class WebhookList(BaseModel):
    data: list[WebhookAnswer]


class DeliveryAnswer(BaseModel):
    id: str = Field(description="`webhook-id` of the message, the same at every attempt")
    event: Event
    batch_id: str
    state: DeliveryState
    attempts: int
    created_at: datetime
    last_at: datetime | None
    last_status: int | None = Field(description="HTTP status of the last attempt")
    last_error: str | None = Field(description="Why it got none: timeout, connection, unresolved, unsafe_address")
    next_at: datetime | None = Field(description="When it is tried again, if it is")

    @classmethod
    def of(cls, delivery: Delivery) -> "DeliveryAnswer":
        values = {name: getattr(delivery, name) for name in cls.model_fields}
        return cls(**values | ({} if delivery.state == DeliveryState.PENDING else {"next_at": None}))


class DeliveryList(BaseModel):
    data: list[DeliveryAnswer]
    has_more: bool
    after: str | None = Field(description="Pass as `after` for the next page")


class DeliveriesQuery(Query):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: str | None = Field(default=None, pattern="^msg_[0-9a-f]+$", description="`after` of the page before")


@blueprint.post("")
@needs(Scope.ADMIN)
@blueprint.input(WebhookAsked, arg_name="asked")
@blueprint.output(WebhookMade, status_code=201)
@blueprint.doc(summary="Register an address that is told how batches end")
def register(asked: WebhookAsked) -> tuple[WebhookMade, int, dict[str, str]]:
    once.keep_without("secret")
    own = parts()
    try:
        addresses.check(asked.url, own.settings.networks)
    except (addresses.UnsafeAddress, addresses.Unresolved) as error:
        raise Problem(422, "webhook_address", f"Messages cannot go there: {error}.") from error
    try:
        with own.database.write() as session:
            webhook = webhooks.register(session, asked.url, list(dict.fromkeys(asked.events)), actor=who())
    except TooManyWebhooks as error:
        raise Problem(409, "too_many_webhooks", f"There are {error} webhooks; remove one first.") from error
    current_app.logger.info("registered %s", webhook.id)
    answer = WebhookMade(**dict(WebhookAnswer.of(webhook)), secret=webhook.secret)
    return answer, 201, {"Location": url_for("webhooks.one", webhook_id=webhook.id)}


@blueprint.get("")
@needs(Scope.ADMIN)
@blueprint.output(WebhookList)
@blueprint.doc(summary="All webhooks, without their secrets")
def index() -> WebhookList:
    with parts().database.read() as session:
        return WebhookList(data=[WebhookAnswer.of(webhook) for webhook in webhooks.registered(session)])


@blueprint.get("/<webhook_id>")
@needs(Scope.ADMIN)
@blueprint.output(WebhookAnswer)
@blueprint.doc(summary="One webhook, without its secret", responses=[404])
def one(webhook_id: str) -> WebhookAnswer:
    with parts().database.read() as session:
        return WebhookAnswer.of(_found(session, webhook_id))


@blueprint.delete("/<webhook_id>")
@needs(Scope.ADMIN)
@blueprint.output({}, status_code=204)
@blueprint.doc(summary="Remove a webhook, and what it was told", responses=[404])
def remove(webhook_id: str) -> Response:
    with parts().database.write() as session:
        webhooks.remove(session, _found(session, webhook_id), actor=who())
    current_app.logger.info("removed %s", webhook_id)
    return Response(status=204)


@blueprint.get("/<webhook_id>/deliveries")
@needs(Scope.ADMIN)
@blueprint.input(DeliveriesQuery, location="query", arg_name="query")
@blueprint.output(DeliveryList)
@blueprint.doc(summary="What a webhook was told, newest first, and how far each message got", responses=[404])
def deliveries(webhook_id: str, query: DeliveriesQuery) -> DeliveryList:
    with parts().database.read() as session:
        _found(session, webhook_id)
        found = webhooks.deliveries(session, webhook_id, limit=query.limit + 1, after=query.after)
        page = [DeliveryAnswer.of(delivery) for delivery in found[: query.limit]]
    more = len(found) > query.limit
    return DeliveryList(data=page, has_more=more, after=page[-1].id if more else None)


def _found(session: Session, webhook_id: str) -> Webhook:
    webhook = webhooks.find(session, webhook_id) if webhook_id.isprintable() else None
    if webhook is None:
        raise Problem(404, "webhook_unknown", "There is no webhook of this id; GET /v1/webhooks lists them.")
    return webhook
