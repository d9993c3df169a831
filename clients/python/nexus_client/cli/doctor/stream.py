"""Event streams (Server-Sent Events), which proxies like to hold back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote

from nexus_client.cli.doctor.findings import Report
from nexus_client.cli.doctor.wire import Head, Place, get, why
from nexus_client.cli.target import EVENTS

TYPE: Final = "agent.status"  # an event that most roles may see
NONE: Final = '{"agentId":{"exists":false}}'  # matches none of them: many would fill a proxy's buffer, and hide it
SOON: Final = 3.0  # s for the first bytes, which the server sends at once
_OFF: Final = (
    "proxy_buffering off in nginx, or no proxy_ignore_headers X-Accel-Buffering; no gzip of text/event-stream; "
    "no option http-buffer-request in HAProxy; a CDN has a switch of its own"
)


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[tuple[Head, asyncio.StreamReader]]:
    """Give an open stream, whose body is still to be read. Raise `OSError` or `ValueError` if no answer comes."""
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "gzip", "Cache-Control": "no-cache"}  # as browsers do
    token = place.target.current_token()
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    path = f"{place.target.path}{EVENTS}?events={TYPE}&filters={quote(NONE)}"
    async with place.dial(place.tls) as wire:
        yield await get(wire, place.target.host, path, headers), wire[0]


async def examine(report: Report, place: Place) -> bool:
    """Check that the first bytes come at once. Return whether there is a stream."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(SOON), opened(place) as (head, reader):
            if head.status in (401, 403):
                report.skipped("buffering", f"the token may not subscribe to {TYPE}: {head.status}")
                return False
            if head.status != 200 or not head.headers.get("content-type", "").startswith("text/event-stream"):
                hint = "pass Accept and the answer on as they are"
                report.failed("buffering", f"an event stream is answered by {head.status}", hint, httpStatus=head.status)
                return False
            if not await reader.read(1):
                report.failed("buffering", "an event stream ends before its first byte", "see the log of the proxy")
                return False
            took = (time.monotonic() - began) * 1000
            packed = head.headers.get("content-encoding")
    except TimeoutError:
        report.failed("buffering", f"no byte of an event stream within {SOON:g} s: it is held back", _OFF)
        return False
    except (OSError, ValueError) as error:
        report.failed("buffering", f"no event stream: {why(error, place.target.secure)}", "see the log of the proxy")
        return False
    figures = {"milliseconds": round(took, 1)}
    if packed:
        hint = "leave text/event-stream out of gzip_types in nginx and compression type in HAProxy"
        text = f"an event stream is compressed on the way ({packed}), which delays events"
        report.warning("buffering", text, hint, **figures)
    else:
        report.ok("buffering", f"the first byte of an event stream comes after {took:.0f} ms", **figures)
    return True
