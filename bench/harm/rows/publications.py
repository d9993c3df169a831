"""Events in bursts."""

from __future__ import annotations

import json

from bench.harm.ordinary import posted
from bench.harm.stage import Stage


def posts(stage: Stage) -> None:
    """16 concurrent requests of nearly the size limit of a message, each with a list of events."""
    events = [{"eventType": "burst", "data": "x" * 1000}] * 240
    request = posted(stage, "publisher", json.dumps(events).encode())
    clients = [stage.raw() for _ in range(16)]
    for client in clients:
        client.send(request)
    for client in clients:
        client.until(b"\r\n\r\n")


def events(stage: Stage) -> None:
    """Events of 64 kB as fast as they are accepted."""
    client = stage.json("publisher")
    for _ in range(300):
        if not client.say({"type": "publish", "eventType": "burst", "data": "x" * 60_000}):
            break
