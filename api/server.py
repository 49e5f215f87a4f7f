"""The API under gunicorn: one process, several threads."""

import gc
import socket
import struct
from typing import Any

from apiflask import APIFlask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from api.app import create_app
from db import migrate
from db.blobs import Blobs
from db.database import Database
from settings import Settings
from worker import sweeper
from worker.tickets import Tickets, celery_app

_PATIENCE_SECONDS = 60


class _Log(Logger):  # type: ignore[misc]
    """gunicorn's log without the lines that clients sent: there is a label in an address, and may be a name in it."""

    def warning(self, msg: str, *args: object, **more: Any) -> None:
        told, quotes, _ = msg.partition(": ") if msg.startswith("Invalid request") else (msg, "", "")
        super().warning(f"{told}; what it said is not kept" if quotes else told, *args, **more)

    def exception(self, msg: str, *args: object, **more: Any) -> None:
        quotes = msg.startswith("Error handling request")
        super().exception("Error handling a request" if quotes else msg, *(() if quotes else args), **more)


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn, configured by our settings alone."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": f"{self._settings.host}:{self._settings.port}",
            "workers": 1,
            "worker_class": "gthread",
            "threads": self._settings.api_threads,
            "timeout": 120,
            "graceful_timeout": 30,
            "keepalive": 30,
            "preload_app": True,  # and frozen, so that the process that serves shares its modules with gunicorn's own
            "pre_fork": lambda _server, _worker: gc.freeze(),
            "when_ready": _lose_patience,
            "accesslog": None,  # a URL may hold a name
            "logger_class": _Log,
            "control_socket_disable": True,  # its place is the user's, so two instances would share it
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> APIFlask:
        return create_app(self._settings)


def _lose_patience(arbiter: Any) -> None:
    """Give up on clients that stop in mid-request, or a few of them would hold every thread for ever.

    gunicorn's threads wait without end; connections inherit this from the socket that accepts them.
    """
    for listener in arbiter.LISTENERS:
        patience = struct.pack("ll", _PATIENCE_SECONDS, 0)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)


def serve(settings: Settings) -> None:
    """Sweep once, then answer requests until SIGTERM. Raises SchemaOld before serving the wrong tables."""
    database = Database(settings.database_url)
    database.patiently(lambda: migrate.require_current(database))
    Blobs(settings.blobs).free_bytes()
    tickets = Tickets(celery_app(settings), batch_size=settings.batch_size)
    database.patiently(lambda: sweeper.sweep(database, tickets, worker="api"))
    database.close()
    Server(settings).run()
