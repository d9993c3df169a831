"""An open session: its clock, heartbeat, latency, and the largest message."""

from __future__ import annotations

import statistics
import time
from datetime import datetime
from typing import Any, Final

from nexus_client.cli.doctor.findings import Report, Stop
from nexus_client.cli.doctor.server import judge_clock
from nexus_client.cli.doctor.session import Ended, Refused, Session
from nexus_client.cli.doctor.upgrade import Welcome, session
from nexus_client.cli.doctor.wire import PATIENCE, Place, why

PINGS: Final = 10
SLOW: Final = 0.5  # s of a round trip
PROXIES: Final = 60.0  # s of silence after which nginx and most load balancers cut a connection unless told otherwise
LARGEST: Final = 1_048_576  # bytes that are sent at most
_OFTEN: Final = "lower heartbeat.interval below every proxy's timeout: proxy_read_timeout in nginx, timeout tunnel in HAProxy"


async def examine(report: Report, place: Place) -> dict[str, Any]:
    """Check one session. Return its `connected`. Raise `Stop` if it ends."""
    try:
        async with session(place) as welcome:
            _clock(report, welcome.message, time.time())
            _heartbeat(report, welcome.message)
            await _latency(report, welcome.session)
            await _large(report, welcome)
            return welcome.message
    except (Ended, Refused, OSError) as error:
        said = why(error, place.target.secure) if isinstance(error, OSError) else str(error)
        raise Stop(f"the session ended: {said}") from None


def _clock(report: Report, connected: dict[str, Any], now: float) -> None:
    try:
        server = datetime.fromisoformat(str(connected["timestamp"])).timestamp()
    except (KeyError, ValueError):
        report.failed("clock", "`connected` has no timestamp", "is this Nexus, and no older one?")
        return
    judge_clock(report, "clock", server - now, "Nexus's clock", 0.1)


def _heartbeat(report: Report, connected: dict[str, Any]) -> None:
    heartbeat = connected.get("heartbeat", {})
    interval, timeout = float(heartbeat.get("interval", 0)), float(heartbeat.get("timeout", 0))
    figures = {"interval": interval, "timeout": timeout}
    text = f"the server pings every {interval:g} s, and gives a silent client {timeout:g} s"
    if interval <= 0:
        report.failed("heartbeat", "`connected` tells no heartbeat", "is this Nexus, and no older one?", **figures)
    elif interval >= PROXIES:
        report.warning("heartbeat", f"{text}; most proxies cut a connection after {PROXIES:g} s of silence", _OFTEN, **figures)
    elif timeout < 1.5 * interval:
        hint = "raise heartbeat.timeout to twice heartbeat.interval"
        report.warning("heartbeat", f"{text}: one lost answer ends a session", hint, **figures)
    else:
        report.ok("heartbeat", text, **figures)


async def _latency(report: Report, found: Session) -> None:
    times: list[float] = []
    try:
        for number in range(PINGS):
            began = time.monotonic()
            await found.send({"type": "ping", "id": number})
            await found.reply("pong")
            times.append((time.monotonic() - began) * 1000)
        await found.ping()
        await found.reply("control")
    except TimeoutError:
        what = "a ping message" if len(times) < PINGS else "a ping of WebSocket (RFC 6455)"
        report.failed("latency", f"{what} is not answered within {PATIENCE:g} s", "does the proxy hold messages back?")
        raise Stop("the session does not answer") from None
    middle = statistics.median(times)
    text = f"{PINGS} pings took {min(times):.1f} to {max(times):.1f} ms, {middle:.1f} in the middle"
    figures = {"minimum": round(min(times), 2), "median": round(middle, 2), "maximum": round(max(times), 2)}
    if middle > SLOW * 1000:
        hint = "is the way long, or the server busy? Compare with nexus doctor on the server itself"
        report.warning("latency", text, hint, **figures)
    else:
        report.ok("latency", text, **figures)


async def _large(report: Report, welcome: Welcome) -> None:
    """Send as long a message as the server says it takes, which it answers with as long a one."""
    limit = int(welcome.message.get("limits", {}).get("message", 0)) or LARGEST
    size = min(limit, LARGEST)
    message = {"type": "ping", "id": ""}
    message["id"] = "x" * (size - len('{"type":"ping","id":""}'))
    try:
        await welcome.session.send(message)
        await welcome.session.reply("pong")
    except (Ended, TimeoutError) as error:
        said = str(error) if isinstance(error, Ended) else "is not answered"
        hint = "a proxy or firewall that reads WebSockets has a limit of its own: raise it, or lower limits.message of Nexus"
        report.failed("large-message", f"a message of {size:,} bytes, as the server allows: {said}", hint, bytes=size)
    else:
        report.ok("large-message", f"a message of {size:,} bytes passes, and so does its answer", bytes=size)
