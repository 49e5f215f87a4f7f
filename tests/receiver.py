"""A receiver of webhooks, a process of its own: writes down what it gets and answers as the path asks."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_STATUSES = {"/ok": 204, "/fail": 500, "/redirect": 302, "/gone": 410}


class _Handler(BaseHTTPRequestHandler):
    book: Path

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        told = {"path": self.path, "headers": dict(self.headers), "body": body}
        with self.book.open("a") as book:
            book.write(json.dumps(told) + "\n")
        if self.path == "/hang":
            threading.Event().wait()
        if self.path == "/drip":
            while True:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n" if not self.wfile.closed else b"")
                time.sleep(0.2)
                self.wfile.write(b"X: ")
        self.send_response(_STATUSES[self.path])
        if self.path == "/redirect":
            self.send_header("Location", "/ok")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Receiver:
    """The running process, and what it got."""

    def __init__(self, url: str, book: Path) -> None:
        self.url = url
        self._book = book

    def got(self, path: str) -> list[dict[str, Any]]:
        """What came to this path so far, with the names of headers in lower case."""
        told = [json.loads(line) for line in self._book.read_text().splitlines()] if self._book.exists() else []
        return [
            one | {"headers": {name.lower(): value for name, value in one["headers"].items()}}
            for one in told
            if one["path"] == path
        ]


@contextmanager
def running(directory: Path) -> Iterator[Receiver]:
    """Start a receiver on a free port of 127.0.0.1."""
    book = directory / "received.jsonl"
    command = [sys.executable, "-m", "tests.receiver", str(book)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    try:
        assert process.stdout
        port = process.stdout.readline().strip()
        yield Receiver(f"http://127.0.0.1:{port}", book)
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    _Handler.book = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(server.server_address[1], flush=True)  # noqa: T201 - how the test hears of the port
    server.serve_forever()


if __name__ == "__main__":
    main()
