"""One webhook message over HTTP: signed, to an address that was checked, with an end to every wait."""

import base64
import hashlib
import hmac
import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import httpcore

from db.webhooks import Due
from worker import addresses
from worker.addresses import Network

DEADLINE_SECONDS = 15
_CONNECT_SECONDS = 5


@dataclass(frozen=True)
class Attempt:
    """What came back: an HTTP status, or why there was none."""

    status: int | None = None
    error: str | None = None


def signature(secret: str, message_id: str, timestamp: int, payload: str) -> str:
    """Sign as Standard Webhooks 1.0 does: HMAC-SHA256 over id, timestamp and body, parted by dots."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.{payload}".encode()
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


def send(due: Due, networks: Sequence[Network]) -> Attempt:
    """Post the message once. No redirect is followed, no body is read."""
    timestamp = int(time.time())
    headers: dict[bytes | str, bytes | str] = {
        "Content-Type": "application/json",
        "User-Agent": "cxr-batch",
        "webhook-id": due.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(due.secret, due.id, timestamp, due.payload),
    }
    backend = _Checked(networks, encrypted=due.url.startswith("https://"))
    try:
        with (
            httpcore.ConnectionPool(ssl_context=httpcore.default_ssl_context(), network_backend=backend) as pool,
            pool.stream("POST", due.url, headers=headers, content=due.payload.encode()) as answer,
        ):
            return Attempt(status=answer.status)
    except addresses.UnsafeAddress:
        return Attempt(error="unsafe_address")
    except addresses.Unresolved:
        return Attempt(error="unresolved")
    except (httpcore.TimeoutException, TimeoutError):
        return Attempt(error="timeout")
    except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError, ValueError):
        return Attempt(error="connection")


class _Checked(httpcore.NetworkBackend):
    """Connects to an address that was checked a moment before, and to no other; all of it within one deadline."""

    def __init__(self, networks: Sequence[Network], *, encrypted: bool) -> None:
        self._networks = networks
        self._encrypted = encrypted
        self._end = time.monotonic() + DEADLINE_SECONDS
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - ours is shorter
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        found = addresses.permitted(host, port, self._networks, encrypted=self._encrypted)
        for number, address in enumerate(found, start=1):
            try:
                stream = self._backend.connect_tcp(address, port, _CONNECT_SECONDS, local_address, socket_options)
                return _Bounded(stream, self._end)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(found):
                    raise
        raise AssertionError(host)


class _Bounded(httpcore.NetworkStream):
    """A stream that ends at its deadline, however slowly the other side drips."""

    def __init__(self, stream: httpcore.NetworkStream, end: float) -> None:
        self._stream = stream
        self._end = end

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, self._left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, self._left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        return _Bounded(self._stream.start_tls(ssl_context, server_hostname, self._left()), self._end)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return left
