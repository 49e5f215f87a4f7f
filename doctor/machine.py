"""What this machine needs: the versions, the broker, the disk."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cxr_client.version import VERSION
from db.blobs import Blobs
from doctor.finding import Finding, failed, unseen, warning, well
from settings import Settings
from worker import broker

_PATIENCE_SECONDS = 3
_SCARCE = 4  # times the free disk below which uploads are refused
_OTHERS = 0o077
_KEEPS_ALL = "noeviction"


def check_versions() -> Finding:
    """Whether the code that runs is the package that is installed."""
    try:
        installed = version("cxr-batch")
    except PackageNotFoundError:
        installed = "no package"
    if installed != VERSION:
        return failed("version", f"the code is {VERSION}, the package {installed}", "install it again: `make setup`")
    return well("version", f"cxr-batch {VERSION}, Python {platform.python_version()}")


def check_broker(settings: Settings) -> Finding:
    embedded = broker.is_embedded(settings)
    name = "the embedded Valkey" if embedded else f"the broker at {urlsplit(settings.redis_url).hostname}"
    try:
        with _redis(settings, embedded=embedded) as client:
            client.ping()
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy", _KEEPS_ALL)
    except redis.AuthenticationError:
        return failed("broker", f"{name} refuses the password", "put the right one into REDIS_URL")
    except redis.ResponseError:
        return well("broker", f"{name} answers; it does not tell its settings")
    except (redis.RedisError, OSError) as error:
        mend = "start everything with `cxr up`" if embedded else "start it, or check REDIS_URL and the network"
        return failed(
            "broker", f"{name} does not answer ({type(error).__name__})", f"{mend}; no image is lost meanwhile"
        )
    if policy != _KEEPS_ALL:
        return warning("broker", f"{name} may drop tickets ({policy})", f"set maxmemory-policy to {_KEEPS_ALL}")
    return well("broker", f"{name} answers")


def _redis(settings: Settings, *, embedded: bool) -> redis.Redis:
    once: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "socket_timeout": _PATIENCE_SECONDS}
    if embedded:
        return redis.Redis(unix_socket_path=settings.redis_url.partition("://")[2], **once)
    return redis.Redis.from_url(settings.redis_url, socket_connect_timeout=_PATIENCE_SECONDS, **once)


def check_disk(settings: Settings) -> Finding:
    """Whether an image can be kept: a file is written, brought to the disk, and taken away again."""
    blobs, least = Blobs(settings.blobs), settings.min_free_bytes
    try:
        free = blobs.free_bytes()
        with blobs.delivery() as delivery:
            blob = delivery.open()
            blob.write(b"cxr doctor")
            blob.close()
    except OSError as error:
        seen = f"{settings.blobs} cannot be written ({error.strerror})"
        return failed("disk", seen, "mount it, or give this user the right to write; then look at CXR_BLOBS")
    room = f"{free / 1e9:.1f} GB free for images"
    if free < least:
        mend = "make room: `cxr purge BATCH` removes images, or lower CXR_MIN_FREE_BYTES"
        return failed("disk", f"{room}, less than CXR_MIN_FREE_BYTES ({least / 1e9:.1f} GB): uploads get 507", mend)
    if free < _SCARCE * least:
        return warning(
            "disk", f"{room}; below {least / 1e9:.1f} GB uploads are refused", "make room: `cxr purge BATCH`"
        )
    return well("disk", room)


def check_home(settings: Settings) -> Finding:
    """Whether others on this machine can read what lies in CXR_HOME."""
    if not settings.home.is_dir():
        return unseen("home", f"there is no {settings.home} yet; `cxr up` makes it")
    open_to_others = [path for path in (settings.home, settings.home / "key") if _readable(path)]
    if open_to_others:
        words = " ".join(map(str, open_to_others))
        return warning("home", f"other users of this machine can read {words}", f"chmod go= {words}")
    return well("home", f"{settings.home} is its owner's alone")


def _readable(path: Path) -> bool:
    return path.exists() and bool(path.stat().st_mode & _OTHERS)
