"""The webhooks of a server: addresses that are told how batches end."""

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from cxr_client.answers import data, read
from cxr_client.records import Delivery, Webhook
from cxr_client.transport import Transport

_HOOKS = "/v1/webhooks"


class Webhooks:
    """Every method raises ClientError."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def add(self, url: str, *, events: Sequence[str] = ()) -> Webhook:
        """Register an address, for all events unless some are named; its `secret` is shown this once."""
        asked = {"url": url} | ({"events": list(events)} if events else {})
        return read(Webhook, self._transport.json("POST", _HOOKS, json=asked))

    def all(self) -> list[Webhook]:
        return [read(Webhook, one) for one in data(self._transport.json("GET", _HOOKS))]

    def remove(self, webhook_id: str) -> None:
        with self._transport.answered("DELETE", f"{_HOOKS}/{quote(webhook_id, safe='')}"):
            pass

    def deliveries(self, webhook_id: str) -> Iterator[Delivery]:
        """What it was told, newest first, and how far each message got."""
        address = f"{_HOOKS}/{quote(webhook_id, safe='')}/deliveries"
        return (read(Delivery, one) for one in self._transport.pages(address, size=100))
