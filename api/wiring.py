"""What the views work with, put together once by create_app."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flask import current_app, g

from api.looks import Looks
from api.polling import Patience
from db.blobs import Blobs
from db.database import Database
from settings import Settings

if TYPE_CHECKING:
    from api.rates import Rates
    from db.keys import Caller
    from worker.tickets import Tickets


@dataclass(frozen=True)
class Parts:
    """`database` is what the caller's hospital sees of it; `system` is all of it."""

    settings: Settings
    system: Database
    database: Database
    blobs: Blobs
    tickets: "Tickets"
    patience: Patience
    looks: Looks
    rates: "Rates"
    tenant: str = ""


def parts() -> Parts:
    """The parts as the present request's caller may use them; without a caller, nobody's rows are seen."""
    own: Parts = current_app.extensions["cxr"]
    caller = g.get("caller")
    tenant = caller.tenant if caller else ""
    database = own.system.of(tenant)
    return replace(own, database=database, tenant=tenant, looks=own.looks.of(database))


def who() -> str:
    """Who asks, as the audit names them."""
    caller: Caller = g.caller
    return caller.actor
