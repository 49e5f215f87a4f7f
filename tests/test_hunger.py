"""What a client sends without end costs the real server neither memory nor disk."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import psutil
import pytest

import operator_key
import up
from settings import Settings
from tests.service import free_port, until
from tests.uploading import BOUNDARY, multipart, part

LIMIT, CHUNK = 64 << 20, bytes(1 << 20)
FIVE_GIB = 5 << 30
MOST_MORE = 60 << 20  # a request's own pieces, and what the allocator keeps
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, psutil.Process]]:
    """The API alone, with a limit of 64 MiB for one request."""
    home = tmp_path_factory.mktemp("home")
    given = {"CXR_HOME": str(home), "CXR_PORT": str(free_port()), "REDIS_URL": "memory://"}
    settings = Settings.from_environment(given | {"CXR_MAX_BATCH_BYTES": str(LIMIT), "CXR_MAX_IMAGES": "20000"})
    up.bring_up_to_date(settings)
    operator_key.make_first(settings)
    HEADERS["Authorization"] = f"Bearer {operator_key.known(settings)}"
    url = f"http://{settings.host}:{settings.port}"
    with (home / "api.log").open("wb") as log:
        command = [sys.executable, "-m", "cxr", "api"]
        process = subprocess.Popen(command, env=os.environ | settings.environment(), stdout=log, stderr=log)
    until(lambda: alive(url), "the server answers")
    httpx.post(f"{url}/v1/batches", content=multipart([("a.txt", b"no image")]), headers=HEADERS)
    (serving,) = psutil.Process(process.pid).children()
    yield url, serving
    process.terminate()
    process.wait()
    assert list((home / "blobs" / "incoming").glob("*")) == []


def alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez").is_success
    except httpx.TransportError:
        return False


def test_five_gibibytes_are_cut_off_at_the_limit(server: tuple[str, psutil.Process]) -> None:
    url, process = server
    before = process.memory_info().rss
    host, port = url.removeprefix("http://").split(":")
    sent, told = 0, b""
    with socket.create_connection((host, int(port)), timeout=30) as client:
        sent_with = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        head = f"POST /v1/batches HTTP/1.1\r\nHost: x\r\n{sent_with}"
        client.sendall(
            head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(part("endless.png") + b"\x89PNG")
        )
        try:
            while sent < FIVE_GIB:
                client.sendall(chunked(CHUNK))
                sent += len(CHUNK)
        except OSError:
            pass  # the server has closed the connection
        while more := received(client):
            told += more
    assert sent < LIMIT + (32 << 20)  # what the sockets hold
    assert not told or b" 413 " in told  # lost where the connection was reset
    assert process.memory_info().rss - before < MOST_MORE
    assert alive(url)


def test_ten_thousand_parts_leave_the_server_small(server: tuple[str, psutil.Process]) -> None:
    url, process = server
    before = process.memory_info().rss
    body = multipart([(f"{number}.txt", b"no image") for number in range(10_000)])
    answer = httpx.post(f"{url}/v1/batches", content=body, headers=HEADERS, timeout=120)
    assert (answer.status_code, answer.json()["code"]) == (422, "no_images")
    assert len(answer.json()["images"]) == 100
    assert process.memory_info().rss - before < MOST_MORE
    assert alive(url)


def chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def received(client: socket.socket) -> bytes:
    try:
        return client.recv(65536)
    except OSError:
        return b""
