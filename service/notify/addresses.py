"""Where messages may go. Users name addresses, and it is the service that calls them: so it calls no inside ones.

An address is looked up once, each of its numbers is judged, and the one that was judged is the one that is called: a
name that points elsewhere a moment later changes nothing. Public addresses are called with https alone. What is not
public is called where the setting `notify_networks` lists its network, with http too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from service.errors import UsageError
from service.queue.notice import Channel

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_MAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?P<domain>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)")
_TRANSLATED = tuple(  # IPv6 in which an IPv4 address is wrapped: a gateway may unwrap it
    ipaddress.ip_network(text) for text in ("::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16",
                                            "2001::/32")
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a request goes: a URL, and the number that its host's name has been found to have."""

    scheme: str
    host: str
    port: int
    target: str  # path and query
    number: Address

    @property
    def url(self) -> str:
        """Return the address by its number."""
        number = f"[{self.number}]" if self.number.version == 6 else str(self.number)
        return f"{self.scheme}://{number}:{self.port}{self.target}"

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"https": 443, "http": 80}[self.scheme] else f"{host}:{self.port}"


@cache
def networks(text: str) -> tuple[Network, ...]:
    """Return the networks of the setting `notify_networks`: `10.0.0.0/8, 127.0.0.0/8`. Raises UsageError."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        return tuple(ipaddress.ip_network(part) for part in parts)
    except ValueError as error:
        raise UsageError(f"notify_networks: {error}; write networks with commas: 10.0.0.0/8, 192.168.1.0/24") from None


def check(channel: Channel, address: str, mail_domains: str) -> None:
    """Raise UsageError for what cannot be an address of this channel; nothing is looked up."""
    if channel is Channel.MAIL:
        match = _MAIL.fullmatch(address)
        if match is None:
            raise UsageError(f"address: {address[:200]!r} is no mail address: write user@example.org")
        allowed = {part.strip().lower() for part in mail_domains.split(",") if part.strip()}
        if allowed and match["domain"].lower() not in allowed:
            raise UsageError(f"address: this service sends mail to {', '.join(sorted(allowed))} alone (mail_domains)")
        return
    _parts(address)


def _parts(address: str) -> tuple[str, str, int, str]:
    """Return scheme, host, port, and path with query. Raises UsageError."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    printable = address.isascii() and address.isprintable() and " " not in address and "\\" not in address
    if host is None or not printable or parts.scheme not in ("https", "http") or port == 0:
        raise UsageError("address: write https://host.example/path")
    if parts.username is not None or parts.password is not None:
        raise UsageError("address: leave user and password out; whoever gets a message verifies its signature")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return parts.scheme, host, port or (443 if parts.scheme == "https" else 80), target


def refusal(scheme: str, number: Address, inside: Sequence[Network]) -> str | None:
    """Return why this number is not called; None: it is."""
    if any(number in network for network in inside if network.version == number.version):
        return None
    wrapped = number.version == 6 and any(number in network for network in _TRANSLATED)
    if wrapped or not number.is_global or number.is_multicast:
        return "it is no public address: whoever runs the service lists its network in notify_networks, or not"
    if scheme != "https":
        return "public addresses are called with https alone"
    return None


async def look_up(address: str, inside: Sequence[Network]) -> Place:
    """Return the place of an address. Raises UsageError where it is not to be called: every number of it must be
    allowed; OSError where its name is not known just now."""
    scheme, host, port, target = _parts(address)
    loop = asyncio.get_running_loop()
    entries = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    numbers = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries]
    for number in numbers:
        if (why := refusal(scheme, number, inside)) is not None:
            raise UsageError(f"{host} is not called: {why}")
    return Place(scheme=scheme, host=host, port=port, target=target, number=numbers[0])
