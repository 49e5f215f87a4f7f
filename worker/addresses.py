"""Which addresses a webhook may have: public ones, and those of the networks that the operator allows."""

import ipaddress
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias
from urllib.parse import urlsplit

Network: TypeAlias = IPv4Network | IPv6Network
_Address: TypeAlias = IPv4Address | IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
_PORTS = {"https": 443, "http": 80}


class UnsafeAddress(Exception):
    """A message must not go there; the message says why."""


class Unresolved(Exception):
    """The name has no address at present."""


def check(url: str, networks: Sequence[Network]) -> None:
    """Raise UnsafeAddress or Unresolved unless a message may be sent to this URL now."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UnsafeAddress("the address is no URL") from error
    if parts.scheme not in _PORTS or not parts.hostname or not url.isascii() or not url.isprintable() or " " in url:
        raise UnsafeAddress("the address is no https URL")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise UnsafeAddress("an address holds no password and no fragment")
    if port == 0:
        raise UnsafeAddress("no port has the number 0")
    permitted(parts.hostname, port or _PORTS[parts.scheme], networks, encrypted=parts.scheme == "https")


def permitted(host: str, port: int, networks: Sequence[Network], *, encrypted: bool) -> list[str]:
    """Return the addresses of `host`, all of which may be sent to; connect to these, or the name may have moved.

    Raises UnsafeAddress, also where only one of them is unsafe, and Unresolved.
    """
    found = _resolved(host, port)
    for address in found:
        if any(address in network for network in networks):
            continue
        if not encrypted:
            raise UnsafeAddress("outside CXR_WEBHOOK_NETWORKS an address begins with https://")
        if not all(_is_public(one) for one in _carried(address)):
            raise UnsafeAddress("the address is private, local or reserved, and outside CXR_WEBHOOK_NETWORKS")
    return [str(address) for address in found]


def _resolved(host: str, port: int) -> list[_Address]:
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unresolved("the name has no address") from error
    return list(dict.fromkeys(ipaddress.ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers))


def _carried(address: _Address) -> list[_Address]:
    """The address, and the IPv4 one that an IPv6 one may lead to."""
    if isinstance(address, IPv4Address):
        return [address]
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or address in _COMPATIBLE:
        inner.append(IPv4Address(int(address) & 0xFFFFFFFF))
    carried = [one for one in inner if one is not None]
    return carried if address.ipv4_mapped or address in _NAT64 else [address, *carried]


def _is_public(address: _Address) -> bool:
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)
