"""Connections that are held, to see when something between cuts them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from nexus_client.cli.doctor import stream
from nexus_client.cli.doctor.findings import Report
from nexus_client.cli.doctor.session import Ended, Refused
from nexus_client.cli.doctor.upgrade import session
from nexus_client.cli.doctor.wire import Place

_TIMEOUTS: Final = "proxy_read_timeout and proxy_send_timeout in nginx, timeout tunnel in HAProxy"


@dataclass(frozen=True, slots=True)
class Held:
    """How long a connection was held (s), and what ended it; None if it lasted."""

    seconds: float
    end: str | None
    by_server: bool = False


async def examine(report: Report, place: Place, seconds: float, connected: dict[str, Any], streams: bool) -> None:
    """Hold a silent connection, one with pings and a silent event stream, all for so many seconds at most."""
    interval = float(connected["heartbeat"]["interval"])
    between = min(interval, seconds) / 8
    holds: dict[str, Callable[[], Awaitable[Held]]] = {
        "idle": lambda: _websocket(place, seconds, None),
        "lively": lambda: _websocket(place, seconds, between),
    }
    if streams:
        holds["idle-stream"] = lambda: _stream(place, seconds)
    results = await asyncio.gather(*(hold() for hold in holds.values()))
    names = {
        "idle": "a client that says nothing",
        "lively": f"a client that pings every {between:g} s",
        "idle-stream": "an event stream in which nothing happens",
    }
    for check, held in zip(holds, results, strict=True):
        figures = {"seconds": round(held.seconds, 1)}
        if held.end is None:
            report.ok(check, f"{names[check]} is still connected after {held.seconds:.0f} s", **figures)
        elif held.by_server:
            report.ok(check, f"{names[check]} was closed by the server after {held.seconds:.0f} s: {held.end}", **figures)
        else:
            text = f"{names[check]} was cut after {held.seconds:.1f} s: {held.end}"
            report.failed(check, text, _hint(check, held.seconds, interval), **figures)
    if not streams:
        report.skipped("idle-stream", "there is no event stream to hold")


def _hint(check: str, seconds: float, interval: float) -> str:
    if check == "lively":
        return (
            f"a connection may not last longer there: raise its bound ({_TIMEOUTS}; worker_shutdown_timeout and "
            "hard-stop-after cut at reloads; a load balancer's largest duration)"
        )
    if seconds < interval:
        return f"raise the timeout above heartbeat.interval ({interval:g} s): {_TIMEOUTS}; or lower heartbeat.interval"
    return f"the server's pings do not count there: raise the timeouts for silent clients ({_TIMEOUTS}, timeout client)"


async def _websocket(place: Place, seconds: float, between: float | None) -> Held:
    """Hold a session: with a ping each `between` seconds, or without a byte to the server."""
    began = time.monotonic()
    told = ""
    try:
        async with session(place) as welcome:
            welcome.session.mute = between is None
            until = began + seconds
            while (left := until - time.monotonic()) > 0:
                try:
                    async with asyncio.timeout(min(left, between or left)):
                        message = await welcome.session.receive()
                    if message.get("type") == "disconnect":
                        told = str(message.get("reason", ""))
                except TimeoutError:
                    if between is not None:
                        await welcome.session.ping()
    except Ended as end:
        return Held(time.monotonic() - began, told or str(end), bool(told))
    except (Refused, OSError) as error:
        return Held(time.monotonic() - began, str(error))
    return Held(seconds, None)


async def _stream(place: Place, seconds: float) -> Held:
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds), stream.opened(place) as (_, reader):
            while await reader.read(65_536):
                pass
    except TimeoutError:
        return Held(seconds, None)
    except (OSError, ValueError) as error:
        return Held(time.monotonic() - began, str(error))
    return Held(time.monotonic() - began, "the stream ended")
