"""Names and addresses: DNS, and TCP to each of what it gives."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from typing import Final

from nexus_client.cli.doctor.findings import Report, Stop
from nexus_client.cli.doctor.wire import PATIENCE, why

MOST: Final = 16  # addresses that are tried
SLOW: Final = 1.0  # s for a name to be found


async def look_up(report: Report, host: str, port: int) -> list[str]:
    """Return the addresses of a host. Raise `Stop` if it has none."""
    loop, began = asyncio.get_running_loop(), time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        said = why(error, False) if isinstance(error, OSError) else "it is no name of the DNS"
        report.failed("dns", f"{host}: {said}", "spell the host of --url as in the DNS; dig or getent hosts show what is known")
        raise Stop("the host has no address") from None
    seconds = time.monotonic() - began
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))[:MOST]
    if _is_literal(host):
        report.ok("dns", f"{host} is an address, no name to look up", addresses=addresses)
        return addresses
    kinds = [f"{sum(':' in each for each in addresses)} IPv6", f"{sum(':' not in each for each in addresses)} IPv4"]
    text = f"{host} is {', '.join(addresses)} ({', '.join(kinds)}), in {seconds * 1000:.0f} ms"
    figures = {"addresses": addresses, "milliseconds": round(seconds * 1000, 1)}
    if seconds > SLOW:
        report.warning("dns", text, "the resolver is slow, and each connect waits for it: see /etc/resolv.conf", **figures)
    else:
        report.ok("dns", text, **figures)
    return addresses


async def reach(report: Report, addresses: list[str], port: int) -> str:
    """Return the first address that accepts connections. Raise `Stop` if there is none."""
    results = await asyncio.gather(*(_connect(each, port) for each in addresses))
    good = [address for address, result in zip(addresses, results, strict=True) if isinstance(result, float)]
    parts = []
    for address, result in zip(addresses, results, strict=True):
        said = f"in {result * 1000:.1f} ms" if isinstance(result, float) else why(result, False)
        parts.append(f"{address} {said}")
    text = f"port {port}: {'; '.join(parts)}"
    figures = {"reached": good, "failed": [each for each in addresses if each not in good]}
    if not good:
        hint = "start the server, check the port, and who listens there: listen in nexus.toml and nginx, bind in HAProxy"
        if any(isinstance(result, TimeoutError) for result in results):
            hint = f"a firewall drops packets to port {port}: let them pass, and check the port"
        report.failed("tcp", text, hint, **figures)
        raise Stop("no connection")
    # Where ::1 is refused, localhost is still reached without delay.
    if len(good) == len(addresses) or all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in addresses):
        report.ok("tcp", text, **figures)
    else:
        hint = "clients that try the others first are late: listen on all addresses (listen [::]:443 in nginx, bind :::443 v4v6"
        report.warning("tcp", text, f"{hint} in HAProxy), or take them out of the DNS", **figures)
    return good[0]


async def _connect(address: str, port: int) -> float | Exception:
    """Return the seconds that a connection took, or why there is none."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(address, port)
    except OSError as error:
        return error
    writer.transport.abort()
    return time.monotonic() - began


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
