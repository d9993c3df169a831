"""What answers over HTTP: is it Nexus, is it ready, and what it tells of its bus and store."""

from __future__ import annotations

import asyncio
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any, Final

from nexus_client.cli import http
from nexus_client.cli.doctor.certificates import shakes_hands
from nexus_client.cli.doctor.findings import Report, Stop
from nexus_client.cli.doctor.wire import Place
from nexus_client.cli.failures import Failure
from nexus_client.cli.words import ago

APART: Final = 5.0  # s between two clocks, from which on they are not set by NTP
FAR: Final = 60.0  # s from which on tokens are refused and telemetry is dated wrongly
_SAMPLE: Final = re.compile(r"^nexus_(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_SET: Final = "set both clocks by NTP: timedatectl set-ntp true"


async def examine(report: Report, place: Place) -> None:
    """Check what the server says of itself. Raise `Stop` if it is not Nexus."""
    answer = await _http(report, place)
    await _date(report, place)
    _ready(report, answer)
    await _inside(report, place)


def judge_clock(report: Report, check: str, ahead: float, what: str, precision: float) -> None:
    """Tell how far the server's clock is ahead of this machine's (s)."""
    text = f"{what} is {ago(ahead)} {'ahead of' if ahead > 0 else 'behind'} this machine's clock"
    figures = {"secondsAhead": round(ahead, 3)}
    if abs(ahead) <= APART:
        report.ok(check, f"{what} agrees with this machine's clock to {max(abs(ahead), precision):.1f} s", **figures)
    elif abs(ahead) <= FAR:
        report.warning(check, text, _SET, **figures)
    else:
        report.failed(check, text, f"{_SET}; JSON Web Tokens are refused early or late until then", **figures)


async def _http(report: Report, place: Place) -> http.Answer:
    """Ask whether it is ready. Return the answer, which is of Nexus."""
    target = place.target
    try:
        answer = await asyncio.to_thread(http.ask, target, "GET", "/health/ready")
    except Failure as error:
        hint = error.hint
        if not target.secure and await shakes_hands(place):
            hint = f"it speaks TLS: give --url https://{target.host}"
        report.failed("http", error.message, hint)
        raise Stop("no HTTP") from None
    by = answer.headers.get("server", "")
    via = f" through {answer.headers['via']}" if "via" in answer.headers else ""
    who = f"{by or 'a server that does not name itself'}{via}"
    figures = {"httpStatus": answer.status, "server": by}
    if 300 <= answer.status < 400:
        where = answer.headers.get("location", "another address")
        hint = "give that address by --url: clients follow no redirect"
        report.failed("http", f"{who} sends clients to {where}", hint, **figures)
        raise Stop("the server is elsewhere")
    if b"https port" in answer.body.lower():
        report.failed("http", f"{who} speaks TLS here", f"give --url https://{target.host}", **figures)
        raise Stop("no HTTP")
    if answer.status in (502, 504):
        hint = "start Nexus, or correct where the proxy sends requests: proxy_pass in nginx, server in HAProxy"
        report.failed("http", f"{who} answers {answer.status}: it does not reach Nexus", hint, **figures)
        raise Stop("the proxy does not reach the server")
    if _state(answer) is None:
        hint = "is the address right? Pass /health/ and /api/ on to Nexus: location in nginx, use_backend in HAProxy"
        text = f"{who} answers {answer.status} at {target.http('/health/ready')}, not as Nexus does"
        report.failed("http", text, hint, **figures)
        raise Stop("what answers is not Nexus")
    report.ok("http", f"Nexus answers, as {who}", **figures)
    return answer


async def _date(report: Report, place: Place) -> None:
    before = time.time()
    answer = await asyncio.to_thread(http.ask, place.target, "GET", "/health/live")
    middle = (before + time.time()) / 2
    try:
        date = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError):
        report.skipped("date", "the answer has no Date")
        return
    # The header has whole seconds, cut off.
    judge_clock(report, "date", date + 0.5 - middle, "the Date of the answer", 0.5)


def _ready(report: Report, answer: http.Answer) -> None:
    state = _state(answer)
    if state == "ready":
        report.ok("ready", "it is ready for clients")
        report.ok("bus", "the event bus works")
        return
    reason = str(answer.json().get("reason", state))
    if "bus" in reason:
        report.failed("ready", f"it is not ready: {reason}", "bring the event bus back; connected clients are still served")
        hint = "is Redis running and reachable from Nexus? see bus.url (NEXUS_BUS, REDIS_URL), and the log of Nexus"
        report.failed("bus", "the event bus is away: publishing fails", hint)
        return
    report.failed("ready", f"it is not ready: {reason}", "wait until it has started or stopped, and look again")
    report.skipped("bus", "a server that is not ready does not tell")


async def _inside(report: Report, place: Place) -> None:
    """Read what /metrics tells of the store, to those who may."""
    answer = await asyncio.to_thread(http.ask, place.target, "GET", "/metrics")
    if answer.status != 200:
        whom = "for tokens with the right metrics or admin, and through nginx.conf only on its own machine"
        report.skipped("store", f"/metrics answers {answer.status}: it is {whom}")
        return
    counts: dict[str, float] = {}
    for name, value in _SAMPLE.findall(answer.body.decode("utf-8", "replace")):
        counts[name] = counts.get(name, 0.0) + float(value)
    stored, failed, dropped = (int(counts.get(name, 0)) for name in _COUNTS)
    figures: dict[str, Any] = {"stored": stored, "failed": failed, "eventsDropped": dropped}
    if failed:
        hint = "the log of Nexus says why; is the disk of store.url full, or slow?"
        report.warning("store", f"{failed:,} samples were refused since the start, {stored:,} stored", hint, **figures)
    else:
        report.ok("store", f"{stored:,} samples stored since the start, none refused by the store", **figures)


_COUNTS: Final = ("telemetry_stored_total", "telemetry_failed_total", "events_dropped_total")


def _state(answer: http.Answer) -> str | None:
    """Return the state that Nexus tells; None if this is another's answer."""
    try:
        body = answer.json()
    except Failure:
        return None
    state = body.get("status") if isinstance(body, dict) else None
    return state if state in ("ready", "not ready") else None
