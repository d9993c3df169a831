"""The same on a bare WebSocket of the websockets library: JSON made by hand, no reconnect, no spool, no queue."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from bench.clients.work import AGENT, BATCH, EVENT, FLIGHT, PUBLISHERS, Work, run, sample, say
from bench.dialects import TOKEN
from bench.errors import Inexact


def client(port: int) -> connect:
    address = f"ws://127.0.0.1:{port}/api/v1/events?token={TOKEN}"
    # Unread events stand before the server's close frame, so waiting for it would only end by this timeout.
    return connect(address, compression=None, max_size=None, proxy=None, ping_interval=None, close_timeout=0.2)


async def receive(socket: ClientConnection, kind: str) -> Any:
    """Return the next message, which must be of this type; pings are left out."""
    while True:
        message = json.loads(await socket.recv())
        if message["type"] == kind:
            return message
        if message["type"] != "ping":
            raise Inexact(f"expected {kind}, got {message!r:.200}")


async def events(port: int, work: Work) -> None:
    async with client(port) as socket:
        await receive(socket, "connected")
        await socket.send(json.dumps({"type": "subscribe", "events": [EVENT], "id": 1}))
        await receive(socket, "subscribed")
        say(0)
        while not work.over:
            work.event((await receive(socket, "event"))["data"]["n"])


async def samples(port: int, work: Work) -> None:
    made = 0

    async def send(socket: ClientConnection) -> None:
        nonlocal made
        timestamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        batch = [{"id": f"sample-{made + n}", "timestamp": timestamp, "metrics": sample(made + n)} for n in range(BATCH)]
        await socket.send(json.dumps({"type": "telemetry", "agentId": AGENT, "samples": batch, "id": made}))
        made += BATCH

    async with client(port) as socket:
        await receive(socket, "connected")
        for _ in range(FLIGHT):
            await send(socket)
        while work.total < made:
            await receive(socket, "telemetry_ack")
            work.count(BATCH)
            if not work.over:
                await send(socket)


async def publications(port: int, work: Work) -> None:
    made = 0

    async def send(socket: ClientConnection) -> None:
        nonlocal made
        await socket.send(json.dumps({"type": "publish", "eventType": EVENT, "data": {"n": made}, "id": made}))
        made += 1

    async with client(port) as socket:
        await receive(socket, "connected")
        for _ in range(PUBLISHERS):
            await send(socket)
        while work.total < made:
            await receive(socket, "published")
            work.count()
            if not work.over:
                await send(socket)


if __name__ == "__main__":
    run({"events": events, "samples": samples, "publications": publications})
