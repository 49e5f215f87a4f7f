"""What an operator can set, read once from the environment and handed in."""

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Self

_LEASE_OVER_DECODE = 3
_BROKERS = ("redis", "rediss", "redis+socket", "memory")  # the last is for tests: nobody takes its tickets
_CRON = r"[0-9*/,\-]+( [0-9*/,\-]+){3} [0-9a-z*/,\-]+"
_LONGEST_SOCKET_PATH = 100  # of 108 bytes in Linux, 104 in macOS


class SettingInvalid(Exception):
    """A setting cannot be used; the message names it and says what to do."""


def _setting(
    name: str,
    default: Any,
    words: str,
    *,
    least: int | None = None,
    most: int | None = None,
    schemes: tuple[str, ...] = (),
    form: str = "",
) -> Any:
    return field(
        default=default,
        metadata={"name": name, "words": words, "least": least, "most": most, "schemes": schemes, "form": form},
    )


@dataclass(frozen=True)
class Settings:
    """Every setting with its default; `from_environment` is the one place that reads the environment."""

    home: Path = _setting("CXR_HOME", Path(), "State directory: database, broker, images, logs, the running instance")
    host: str = _setting("CXR_HOST", "127.0.0.1", "Address that the API listens on")
    port: int = _setting("CXR_PORT", 8080, "Port that the API listens on", least=1, most=65_535)
    url: str = _setting("CXR_URL", "", "Server that the command line talks to; empty: the one running in CXR_HOME")
    key: str = _setting("CXR_KEY", "", "API key of the command line; empty: the one that CXR_HOME keeps")
    database_url: str = _setting(
        "DATABASE_URL", "", "PostgreSQL as postgresql://…; empty: SQLite in CXR_HOME", schemes=("postgresql", "sqlite")
    )
    redis_url: str = _setting(
        "REDIS_URL", "", "Redis or Valkey; empty: the embedded Valkey of CXR_HOME", schemes=_BROKERS
    )
    blobs: Path = _setting("CXR_BLOBS", Path(), "Directory of the submitted images, shared by all machines")
    audit_heads: Path = _setting(
        "CXR_AUDIT_HEADS", Path(), "Directory of the audit's signed heads and of the key that signs them"
    )
    batch_size: int = _setting("CXR_BATCH_SIZE", 64, "Images claimed, decoded and predicted together", least=1)
    workers: int = _setting("CXR_WORKERS", 0, "Workers that `cxr up` starts; 0: one per GPU, or one", least=0)
    decoders: int = _setting("CXR_DECODERS", 0, "Decoding processes of a worker; 0: one per core", least=0)
    decode_seconds: int = _setting("CXR_DECODE_SECONDS", 20, "Longest time for decoding one image", least=1)
    decode_bytes: int = _setting("CXR_DECODE_BYTES", 2 << 30, "Address space of one decoding process", least=1 << 28)
    lease_seconds: int = _setting(
        "CXR_LEASE_SECONDS", 60, "After this an image held by a silent worker returns", least=1, most=900
    )
    sweep_seconds: int = _setting("CXR_SWEEP_SECONDS", 15, "Pause between two sweeps of the queue", least=1)
    expire_hours: int = _setting(
        "CXR_EXPIRE_HOURS",
        168,
        "After this an image that no worker has begun is given up as expired",
        least=1,
        most=8760,
    )
    keep_images_days: int = _setting(
        "CXR_KEEP_IMAGES_DAYS", 0, "After this the images of a batch that ended are purged; 0: kept for ever", least=0
    )
    keep_results_days: int = _setting(
        "CXR_KEEP_RESULTS_DAYS", 0, "After this the results of a batch that ended are purged; 0: kept for ever", least=0
    )
    keep_audit_days: int = _setting(
        "CXR_KEEP_AUDIT_DAYS", 0, "After this rows of the audit are removed; 0: kept for ever", least=0
    )
    training_data: Path = _setting(
        "CXR_TRAINING_DATA", Path(), "Folder of radiographs with masks that candidates are judged and trained on"
    )
    retrain_cron: str = _setting(
        "CXR_RETRAIN_CRON", "", "When to retrain, in UTC: minute hour day month weekday; empty: never", form=_CRON
    )
    retrain_labels: int = _setting("CXR_RETRAIN_LABELS", 20, "Newly labelled images below which none is made", least=1)
    retrain_epochs: int = _setting("CXR_RETRAIN_EPOCHS", 30, "Epochs of a retraining run at most", least=1)
    retrain_exposures: int = _setting(
        "CXR_RETRAIN_EXPOSURES", 8, "Changed copies of each radiograph that a retraining run learns from", least=0
    )
    trainer_share: int = _setting(
        "CXR_TRAINER_SHARE",
        10,
        "Percent of its time that the trainer works while images wait; 100 where it has a machine of its own",
        least=1,
        most=100,
    )
    retrain_promote: int = _setting(
        "CXR_RETRAIN_PROMOTE", 0, "1: a candidate that passes the gate becomes champion without a person", most=1
    )
    trusted_proxies: int = _setting(
        "CXR_TRUSTED_PROXIES",
        0,
        "Reverse proxies in front of the server, one behind the other, whose X-Forwarded-For is believed; 0: none",
        least=0,
        most=10,
    )
    api_threads: int = _setting("CXR_API_THREADS", 8, "Requests that the API serves at once", least=1)
    max_images: int = _setting("CXR_MAX_IMAGES", 5_000, "Images in one batch", least=1)
    max_image_bytes: int = _setting("CXR_MAX_IMAGE_BYTES", 50_000_000, "Bytes of one image", least=1)
    max_pixels: int = _setting("CXR_MAX_PIXELS", 100_000_000, "Pixels of one image, by its header", least=1)
    max_batch_bytes: int = _setting("CXR_MAX_BATCH_BYTES", 5 << 30, "Bytes of one request", least=1)
    max_zip_growth: int = _setting(
        "CXR_MAX_ZIP_GROWTH", 200, "How many times larger a zip's file may become, beyond its first MiB", least=1
    )
    max_json_bytes: int = _setting("CXR_MAX_JSON_BYTES", 10_000_000, "Bytes of a body that is no file", least=1_000)
    max_form_bytes: int = _setting(
        "CXR_MAX_FORM_BYTES", 100_000, "Bytes of a form, and of a body of who shows no key", least=1_000
    )
    requests_per_minute: int = _setting(
        "CXR_REQUESTS_PER_MINUTE", 6_000, "Requests of one key in a minute; 0: no limit", least=0
    )
    images_per_day: int = _setting("CXR_IMAGES_PER_DAY", 0, "Images of one key in a day; 0: no limit", least=0)
    bytes_per_day: int = _setting("CXR_BYTES_PER_DAY", 0, "Bytes of one key in a day; 0: no limit", least=0)
    max_waiting: int = _setting(
        "CXR_MAX_WAITING", 500_000, "Queued images from which on submissions are refused; 0: no limit", least=0
    )
    oidc_issuer: str = _setting(
        "CXR_OIDC_ISSUER",
        "",
        "OpenID Connect provider that people sign in with; empty: none",
        schemes=("https", "http"),
    )
    oidc_client_id: str = _setting("CXR_OIDC_CLIENT_ID", "", "What the provider knows this service by")
    oidc_client_secret: str = _setting(
        "CXR_OIDC_CLIENT_SECRET", "", "The secret that the provider gave to this service"
    )
    oidc_claim: str = _setting(
        "CXR_OIDC_CLAIM", "email", "Claim that names the person, as `cxr key create --person` does"
    )
    min_free_bytes: int = _setting("CXR_MIN_FREE_BYTES", 1 << 28, "Free disk below which uploads are refused", least=0)
    import_root: str = _setting(
        "CXR_IMPORT_ROOT", "", "Directory below which a batch may name files of this machine; empty: none may"
    )
    webhook_networks: str = _setting(
        "CXR_WEBHOOK_NETWORKS", "", "Networks in which webhooks may be, as 10.1.0.0/16 10.2.3.4/32; empty: public ones"
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Return the settings, or raise SettingInvalid naming the one that cannot be used."""
        environment = os.environ if environment is None else environment
        given: dict[str, Any] = {}
        for spec in fields(cls):
            text = environment.get(spec.metadata["name"], "")
            if text:
                given[spec.name] = _parse(spec.metadata, spec.default, text)
        home = given.setdefault("home", _default_home(environment))
        given.setdefault("database_url", f"sqlite:///{home / 'cxr.db'}")
        given.setdefault("redis_url", f"redis+socket://{_socket(home)}")
        given.setdefault("blobs", home / "blobs")
        given.setdefault("audit_heads", home / "audit")
        settings = cls(**given)
        if settings.oidc_issuer and not (settings.oidc_client_id and settings.oidc_client_secret):
            raise SettingInvalid(
                "CXR_OIDC_ISSUER needs CXR_OIDC_CLIENT_ID and CXR_OIDC_CLIENT_SECRET; none has a default"
            )
        if settings.lease_seconds < _LEASE_OVER_DECODE * settings.decode_seconds:
            words = f"CXR_LEASE_SECONDS must be at least {_LEASE_OVER_DECODE} times CXR_DECODE_SECONDS"
            raise SettingInvalid(f"{words}, or a slow image loses its lease while it is decoded")
        if settings.import_root and not Path(settings.import_root).is_absolute():
            raise SettingInvalid(f"CXR_IMPORT_ROOT={settings.import_root!r}: give an absolute path")
        try:
            settings.networks  # noqa: B018 - a wrong one stops the start
        except ValueError as error:
            raise SettingInvalid(f"CXR_WEBHOOK_NETWORKS: {error}; give networks as 10.1.0.0/16 10.2.3.4/32") from error
        return settings

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Where webhooks may be beside the public addresses."""
        return tuple(ip_network(text) for text in self.webhook_networks.replace(",", " ").split())

    def environment(self) -> dict[str, str]:
        """The same settings as environment variables, for a child process."""
        values = {spec.metadata["name"]: getattr(self, spec.name) for spec in fields(self)}
        return {name: "" if value == Path() else str(value) for name, value in values.items()}


def _parse(metadata: Mapping[str, Any], default: object, text: str) -> object:
    if isinstance(default, Path):
        return Path(text).expanduser().absolute()
    if not isinstance(default, int):
        if metadata["schemes"] and text.partition("://")[0] not in metadata["schemes"]:
            # Without its value, which may hold a password.
            raise SettingInvalid(f"{metadata['name']}: give an address that begins with {metadata['schemes'][0]}://")
        if metadata["form"] and not re.fullmatch(metadata["form"], text):
            raise SettingInvalid(
                f"{metadata['name']}={text!r}: give five fields, such as `0 3 * * 0` for Sundays at three"
            )
        return text
    least, most = metadata["least"] or 0, metadata["most"]
    if not text.isdecimal() or int(text) < least or (most and int(text) > most):
        upwards = f" and at most {most}" if most else ""
        raise SettingInvalid(f"{metadata['name']}={text!r}: give a whole number of at least {least}{upwards}")
    return int(text)


def _default_home(environment: Mapping[str, str]) -> Path:
    data = environment.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data).absolute() / "cxr-batch"


def _socket(home: Path) -> Path:
    """The broker's socket: in the home, or, where that path is longer than the kernel takes, under /tmp."""
    if len(bytes(home / "valkey.sock")) < _LONGEST_SOCKET_PATH:
        return home / "valkey.sock"
    name = hashlib.sha256(bytes(home)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"cxr-{os.getuid()}-{name}" / "valkey.sock"
