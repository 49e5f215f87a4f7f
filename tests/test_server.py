"""The API under gunicorn: what clients do to it that the application alone does not see."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

import operator_key
import up
from settings import Settings
from tests.service import free_port, until

_LENGTH = b"Content-Type: application/zip\r\nContent-Length: 1000"
_IMPATIENT = """
from api import server
from settings import Settings
server._PATIENCE_SECONDS = 1
server.serve(Settings.from_environment())
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A server of two threads that waits one second for a client."""
    given = {"CXR_HOME": str(tmp_path), "CXR_PORT": str(free_port()), "CXR_API_THREADS": "2", "REDIS_URL": "memory://"}
    settings = Settings.from_environment(given)
    up.bring_up_to_date(settings)
    operator_key.make_first(settings)
    with (tmp_path / "api.log").open("wb") as log:
        command = [sys.executable, "-c", _IMPATIENT]
        server = subprocess.Popen(command, env=os.environ | settings.environment(), stdout=log, stderr=log)
    until(lambda: answers(settings.host, settings.port), "the server answers")
    yield settings.host, settings.port
    server.terminate()
    server.wait()


def answers(host: str, port: int) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"http://{host}:{port}/livez", timeout=5).is_success
    return False


@pytest.mark.parametrize(
    ("begun", "told"),
    [
        (
            b"POST /v1/batches HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n" + _LENGTH + b"\r\n\r\nPK",
            b"408",
        ),
        (b"GET /livez HTT", b""),
    ],
    ids=["in the body", "in the first line"],
)
def test_clients_that_stop_in_mid_request_do_not_hold_the_server(
    address: tuple[str, int], begun: bytes, told: bytes, tmp_path: Path
) -> None:
    begun = begun.replace(b"{key}", (tmp_path / "key").read_bytes().strip())
    stalled = [socket.create_connection(address, timeout=30) for _ in range(4)]
    for client in stalled:
        client.sendall(begun)
    until(lambda: answers(*address), "the server answers again", seconds=30)
    for client in stalled:
        with closing(client):
            assert told in client.recv(1000)


def test_a_line_that_cannot_be_read_is_not_quoted_in_the_log(address: tuple[str, int], tmp_path: Path) -> None:
    with closing(socket.create_connection(address, timeout=30)) as client:
        client.sendall(b"PUT /v1/batches/x/images/Mustermann Erika.png HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"400" in client.recv(1000)
    log = tmp_path / "api.log"
    until(lambda: "Invalid request" in log.read_text(), "it is in the log")
    assert "Erika" not in log.read_text()
