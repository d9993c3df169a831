"""Products of limits that are each respected: filters and patterns times events."""

from __future__ import annotations

from typing import Any

from bench.harm.client import Client
from bench.harm.stage import Stage

EVENT = 60_000  # bytes


def conditions(stage: Stage) -> None:
    """128 subscriptions of 30 conditions each, and an event with one member for each condition."""
    client = stage.json("both")
    names = [".".join("a" * depth) for depth in range(1, 31)]
    _subscribe(client, [{name: {"ne": f"{number}"} for name in names} for number in range(128)])
    data: Any = [0] * (EVENT // 2)
    for _ in range(30):
        data = {"a": data}
    for _ in range(4):
        client.ask({"type": "publish", "eventType": "bomb", "data": data})


def dots(stage: Stage) -> None:
    """Names of 60,000 dots, and empty events."""
    client = stage.json("both")
    _subscribe(client, [{"." * EVENT: {"ne": number}} for number in range(8)])
    for _ in range(20):
        client.ask({"type": "publish", "eventType": "bomb", "data": {}})


def samples(stage: Stage) -> None:
    """The same conditions on telemetry."""
    client = stage.json("all")
    names = [f"metrics.m{number}" for number in range(30)]
    filters = [{name: {"ne": number} for name in names} for number in range(128)]
    for each in filters:
        client.ask({"type": "subscribe", "events": ["telemetry.received"], "filters": each})
    for _ in range(20):
        metrics = {f"m{number}": "x" * 350 for number in range(30)}
        client.ask({"type": "telemetry", "agentId": "all", "metrics": metrics})


def patterns(stage: Stage) -> None:
    """Patterns of 124 components."""
    client = stage.json("reader")
    for number in range(128):
        events = [".".join([f"{number}-{part}", *"*" * 123]) for part in range(12)]
        client.say({"type": "subscribe", "events": events})
    client.heed(0.5)


def _subscribe(client: Client, filters: list[dict[str, Any]]) -> None:
    for each in filters:
        client.ask({"type": "subscribe", "events": ["bomb"], "filters": each})
