"""The Python client for the tests, and servers for it: ours without workers, and one that says what it is told."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import operator_key
import up
from cxr_client import Client
from db import tenancy
from settings import Settings
from tests.service import free_port, until
from training import phantoms


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The API without workers: batches stay open."""
    share = tmp_path_factory.mktemp("share")
    phantoms.write(share / tenancy.DEFAULT / "ward-3", count=2, seed=7)
    given = {"CXR_HOME": str(tmp_path_factory.mktemp("alone")), "CXR_PORT": str(free_port()), "REDIS_URL": "memory://"}
    settings = Settings.from_environment(given | {"CXR_IMPORT_ROOT": str(share)})
    up.bring_up_to_date(settings)
    operator_key.make_first(settings)
    with serving(settings):
        with client(settings) as there:
            until(lambda: there.ready().ready, "the server is ready")
        yield settings


@contextmanager
def serving(settings: Settings) -> Iterator[None]:
    with (settings.home / "api.log").open("wb") as log:
        command = [sys.executable, "-P", "-m", "cxr", "api"]
        server = subprocess.Popen(command, env=os.environ | settings.environment(), stdout=log, stderr=log)
    yield
    server.terminate()
    server.wait()


def client(settings: Settings, **more: Any) -> Client:
    return Client(f"http://{settings.host}:{settings.port}", operator_key.known(settings), **more)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return phantoms.write(tmp_path, count=3, seed=1)


@contextmanager
def saying(
    *answers: tuple[int, dict[str, str], bytes], dated: bool = True
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Another program at an address: it gives these answers in turn, and keeps what headers came."""
    heard: list[dict[str, str]] = []

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answers[min(len(heard), len(answers) - 1)]
            heard.append(dict(self.headers))
            if dated:
                self.send_response(status)
            else:
                self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()
