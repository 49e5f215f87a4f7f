"""A client of the real application, without a socket, that sees what an upload leaves behind."""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from api.app import create_app
from api.wiring import Parts
from db import registry
from db.tables import Batch, Image
from settings import Settings
from tests import migrated
from tests.access import show_key
from tests.service import CARD

Radiograph = Callable[[int], bytes]
BOUNDARY = "b0undary"


class Api:
    """The application over an empty, migrated database with a champion that nobody loads."""

    def __init__(self, settings: Settings) -> None:
        path = Path(settings.database_url.removeprefix("sqlite:///"))
        if settings.database_url.startswith("sqlite") and not path.exists():
            migrated.sqlite(path)
        app = create_app(settings)
        self.client: FlaskClient = app.test_client()
        self.parts: Parts = app.extensions["cxr"]
        show_key(self.client)
        self.actor = "key:" + self.client.environ_base["HTTP_AUTHORIZATION"].split("_")[1]
        with self.parts.database.write() as session:
            registry.register(session, self.parts.blobs, CARD, b"weights", actor="test")
            registry.appoint(session, registry.CHAMPION, CARD.version, actor="test")

    def post(
        self, body: Any, content_type: str = f"multipart/form-data; boundary={BOUNDARY}", **more: Any
    ) -> TestResponse:
        if isinstance(body, Iterator):
            chunked = {"wsgi.input": Stream(body), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
            more = {"environ_overrides": chunked | {"CONTENT_TYPE": content_type} | more}
        else:
            more |= {"data": body}
        return self.client.post("/v1/batches", content_type=content_type, **more)

    def submit(self, files: Mapping[str, bytes]) -> TestResponse:
        return self.post(multipart(list(files.items())))

    def images(self) -> list[Image]:
        with self.parts.database.read() as session:
            return list(session.scalars(select(Image).order_by(Image.id)))

    def blobs(self) -> list[Path]:
        """What is kept besides the champion's weights; every blob hashes to its name."""
        weights = hashlib.sha256(b"weights").hexdigest()
        found = [path for path in self.parts.blobs.root.rglob("*") if path.is_file() and path.name != weights]
        for path in found:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        return found

    def refuses(self, answer: TestResponse, status: int, code: str) -> Any:
        """Assert the problem, and that it left nothing behind in the database or among the blobs."""
        problem = answer.get_json(force=True)
        assert (answer.status_code, problem["code"]) == (status, code), problem
        assert answer.content_type == "application/problem+json"
        with self.parts.database.read() as session:
            assert session.scalar(select(func.count()).select_from(Batch)) == 0
            assert session.scalar(select(func.count()).select_from(Image)) == 0
        self.nothing_unfinished()
        assert self.blobs() == []
        return problem

    def nothing_unfinished(self) -> None:
        assert list((self.parts.blobs.root / "incoming").glob("*")) == []
        self.blobs()


class Stream(io.RawIOBase):
    """A body that arrives bit by bit and is nowhere whole."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._left = self._left or next(self._chunks, b"")
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def multipart(files: list[tuple[str, bytes]]) -> bytes:
    return b"".join([*(part(name) + data + b"\r\n" for name, data in files), f"--{BOUNDARY}--\r\n".encode()])


def part(name: str) -> bytes:
    quoted = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="{quoted}"\r\n\r\n'.encode()
