"""Trusted proxies: finds a client's own address behind them."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from nexus_tw.model.errors import ConfigError

UNIX: Final = "unix"  # the address of every peer on a UNIX socket

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
REMEMBERED: Final = 512  # characters of a list with a cached result: longer ones are made up, or rare

# Some proxies add the port of their client: `192.0.2.1:4711`, `[2001:db8::1]:4711`.
_ENTRY: Final = re.compile(
    r"[ \t]*(?:\[(?P<v6>[0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|(?P<v4>[0-9.]+):[0-9]{1,5}|(?P<bare>[0-9A-Fa-f:.]+))[ \t]*\Z"
)


def client_address(peer: str, forwarded_for: str | None, trusted: tuple[str, ...]) -> str:
    """Return the client's own address.

    `peer` is the other end of the connection (an IP address, or `unix`), `forwarded_for` the X-Forwarded-For header, `trusted`
    the proxies' addresses, networks, or `unix`. Each proxy appends its client's address on the right; so the list is read from
    there, as long as the writer of an entry is trusted. Entries further left, or unreadable ones, may be
    invented.
    """
    if forwarded_for is not None and len(forwarded_for) > REMEMBERED:
        return _client_address(peer, forwarded_for, trusted)
    return _remembered(peer, forwarded_for, trusted)


def _client_address(peer: str, forwarded_for: str | None, trusted: tuple[str, ...]) -> str:
    networks = parse_trusted(trusted)
    current = _address(peer) or peer
    for entry in reversed(forwarded_for.split(",") if forwarded_for else []):
        if not _trusts(current, trusted, networks):
            break
        address = _entry(entry)
        if address is None:
            break
        current = address
    return str(current)


_remembered: Final = lru_cache(maxsize=1024)(_client_address)


@lru_cache(maxsize=16)
def parse_trusted(trusted: tuple[str, ...]) -> tuple[Network, ...]:
    """Return the networks among the entries; raise `ConfigError` for one that is neither address, network nor `unix`."""
    networks: list[Network] = []
    for index, entry in enumerate(trusted):
        if entry == UNIX:
            continue
        try:
            networks.append(ip_network(entry))
        except ValueError as error:
            raise ConfigError(f"http.trusted_proxies[{index}]: {error}") from None
    return tuple(networks)


def _trusts(peer: Address | str, trusted: tuple[str, ...], networks: tuple[Network, ...]) -> bool:
    if isinstance(peer, str):
        return peer == UNIX and UNIX in trusted
    return any(peer in network for network in networks)


def _entry(text: str) -> Address | None:
    match = _ENTRY.match(text)
    return _address(match["v6"] or match["v4"] or match["bare"]) if match else None


def _address(text: str) -> Address | None:
    """Return the IP address; None for other text."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # An IPv4 client on a dual-stack socket shows as `::ffff:192.0.2.1`, and is the same client.
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
