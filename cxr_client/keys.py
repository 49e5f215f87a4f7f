"""The keys of one's own hospital."""

from collections.abc import Iterable
from urllib.parse import quote

from cxr_client.answers import data, read
from cxr_client.records import Key
from cxr_client.transport import Transport

_KEYS = "/v1/keys"


class Keys:
    """Every method raises ClientError."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str, scopes: Iterable[str], *, days: int = 365) -> Key:
        """Make a key; its `key` is shown this once."""
        asked = {"name": name, "scopes": list(scopes), "days": days}
        return read(Key, self._transport.json("POST", _KEYS, json=asked))

    def all(self) -> list[Key]:
        """Every key, oldest first, without its secret."""
        return [read(Key, one) for one in data(self._transport.json("GET", _KEYS))]

    def revoke(self, key_id: str) -> None:
        """Close it from now on."""
        with self._transport.answered("DELETE", f"{_KEYS}/{quote(key_id, safe='')}"):
            pass
