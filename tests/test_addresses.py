"""No webhook reaches an address that is not public, unless the operator allows its network."""

import socket
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from db import webhooks
from settings import SettingInvalid, Settings
from tests.receiver import Receiver
from tests.test_webhooks import due, there
from tests.uploading import Api
from worker import addresses, delivery

__all__ = ["there"]  # a fixture

UNSAFE = [
    "http://93.184.216.34/",  # not encrypted
    "https://127.0.0.1/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f.0.0.1/",
    "https://localhost/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://[::]/",
    "https://[::1]/",
    "https://[fe80::1]/",
    "https://[fc00::1]/",
    "https://[ff02::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:7f00:1::]/",
    "https://nowhere.invalid/",
]
MALFORMED = [
    "https://user:pass@93.184.216.34/",
    "https://93.184.216.34/#there",
    "https://93.184.216.34:0/",
    "https://93.184.216.34:99999/",
    "ftp://93.184.216.34/",
    "file:///etc/passwd",
    "https:///nowhere",
    "https://no such host/",
    "nonsense",
    "",
]


@pytest.mark.parametrize("url", UNSAFE + MALFORMED)
def test_an_address_that_is_not_safe_is_refused(api: Api, url: str) -> None:
    refused: Any = api.client.post("/v1/webhooks", json={"url": url}).json
    assert (refused["status"], refused["code"]) == (422, "webhook_address")
    with api.parts.database.read() as session:
        assert webhooks.registered(session) == []


@pytest.mark.parametrize(
    "url", ["https://93.184.216.34/hook?a=b", "https://[2606:2800:220:1:248:1893:25c8:1946]:8443/"]
)
def test_a_public_address_is_taken(api: Api, url: str) -> None:
    assert api.client.post("/v1/webhooks", json={"url": url}).status_code == 201


@pytest.mark.parametrize("url", UNSAFE)
def test_an_address_that_became_unsafe_is_not_sent_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def dialled(*_: object, **__: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket, "create_connection", dialled)
    assert delivery.send(due(url), ()).error in {"unsafe_address", "unresolved"}


def test_a_name_that_moves_is_looked_up_once_and_the_checked_address_is_dialled(
    there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS that answers with a public address first and a private one afterwards."""
    real, asked = socket.getaddrinfo, []

    def moving(host: str, port: int, *more: Any, **named: Any) -> Any:
        if host != "moving.example":
            return real(host, port, *more, **named)
        asked.append(host)
        return real("127.0.0.1" if len(asked) == 1 else "127.0.0.2", port, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", moving)
    port = there.url.rpartition(":")[2]
    allowed = (ip_network("127.0.0.1/32"),)
    assert delivery.send(due(f"http://moving.example:{port}/ok"), allowed).status == 204
    assert len(asked) == 1
    assert delivery.send(due(f"http://moving.example:{port}/ok"), allowed).error == "unsafe_address"


def test_a_name_with_one_unsafe_address_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443)) for ip in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(addresses.UnsafeAddress):
        addresses.check("https://both.example/", ())


def test_networks_that_are_none_stop_the_start(tmp_path: Path) -> None:
    good = {"CXR_HOME": str(tmp_path), "CXR_WEBHOOK_NETWORKS": "10.1.0.0/16, 10.2.3.4/32 fd00::/8"}
    assert len(Settings.from_environment(good).networks) == 3
    with pytest.raises(SettingInvalid, match="CXR_WEBHOOK_NETWORKS"):
        Settings.from_environment(good | {"CXR_WEBHOOK_NETWORKS": "10.1.0.1/16"})
