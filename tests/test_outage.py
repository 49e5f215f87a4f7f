"""A process that starts while the database is away waits for it."""

import os
import subprocess
import sys
from pathlib import Path

import httpx

from db import migrate
from db.database import Database
from settings import Settings
from tests import postgres
from tests.service import free_port, until


def test_an_api_that_starts_in_an_outage_waits_it_out(tmp_path: Path) -> None:
    with postgres.own() as server:
        given = {"CXR_HOME": str(tmp_path), "CXR_PORT": str(free_port()), "DATABASE_URL": server.database()}
        settings = Settings.from_environment(given)
        database = Database(settings.database_url)
        migrate.upgrade(database)
        database.close()
        server.stop()
        log = tmp_path / "log"
        with log.open("ab") as file:
            api = subprocess.Popen(
                [sys.executable, "-P", "-m", "cxr", "api"], env=os.environ | given, stdout=file, stderr=file
            )
        try:
            until(lambda: "trying again" in log.read_text() or api.poll() is not None, "it has asked in vain")
            server.start()
            until(lambda: _lives(settings.port) or api.poll() is not None, "it answers")
            assert api.poll() is None, log.read_text()
        finally:
            api.terminate()
            api.wait()


def _lives(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/livez").is_success
    except httpx.TransportError:
        return False
