"""What the views work with, put together once by create_app."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import current_app

from api.looks import Looks
from api.polling import Patience
from db.blobs import Blobs
from db.database import Database
from settings import Settings

if TYPE_CHECKING:
    from worker.tickets import Tickets


@dataclass(frozen=True)
class Parts:
    settings: Settings
    database: Database
    blobs: Blobs
    tickets: "Tickets"
    patience: Patience
    looks: Looks


def parts() -> Parts:
    """The parts of the application that serves the present request."""
    own: Parts = current_app.extensions["cxr"]
    return own


def who() -> str:
    """Who asks, as the audit names them."""
    return "api"
