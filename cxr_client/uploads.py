"""A batch's files as one multipart body: streamed, of a known length, never whole in memory."""

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from cxr_client.errors import FileUnreadable

File: TypeAlias = str | Path | tuple[str, str | Path]
"""A path, which is its own custom id, or (custom id, path)."""

Progress: TypeAlias = Callable[[int, int], object]
"""Hears (bytes sent, bytes in all); the first begins anew where the upload had to."""

_CHUNK = 256 * 1024


class Upload:
    """Files under their custom ids; `body` may be read again and again."""

    def __init__(self, files: Iterable[File], on_progress: Progress) -> None:
        boundary = secrets.token_hex(16)
        self._on_progress = on_progress
        self._parts = [(_header(boundary, custom_id), path, size_of(path)) for custom_id, path in map(_named, files)]
        self._end = f"--{boundary}--\r\n".encode()
        self._total = sum(size for _, _, size in self._parts)
        framing = sum(len(header) + 2 for header, _, _ in self._parts) + len(self._end)
        self.headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(self._total + framing),
        }

    def body(self) -> Iterator[bytes]:
        """Yield it piece by piece, or raise FileUnreadable."""
        sent = 0
        self._on_progress(0, self._total)
        for header, path, size in self._parts:
            yield header
            for chunk in pieces(path, size):
                yield chunk
                sent += len(chunk)
                self._on_progress(sent, self._total)
            yield b"\r\n"
        yield self._end


def _named(file: File) -> tuple[str, Path]:
    custom_id, path = file if isinstance(file, tuple) else (str(file), file)
    return custom_id, Path(path)


def _header(boundary: str, custom_id: str) -> bytes:
    # RFC 7578: quotes and line breaks in a name are percent-encoded, everything else is UTF-8.
    escaped = custom_id.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    lines = (f"--{boundary}", f'Content-Disposition: form-data; name="images"; filename="{escaped}"', "", "")
    return os.fsencode(
        "\r\n".join(lines)
    )  # a name that is no UTF-8 goes as the bytes that it is, for the server to judge


def size_of(path: Path) -> int:
    """Its bytes, or FileUnreadable."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from error


def pieces(path: Path, size: int) -> Iterator[bytes]:
    """As many bytes as were promised: what was appended meanwhile stays out, what is missing is an error."""
    try:
        with path.open("rb") as file:
            while size and (chunk := file.read(min(_CHUNK, size))):
                size -= len(chunk)
                yield chunk
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from error
    if size:
        raise FileUnreadable(f"{path} became shorter while it was sent")
