"""Combinations drawn at random, with every limit at its maximum."""

from __future__ import annotations

from random import Random
from typing import Any

from bench.harm.client import Client
from bench.harm.stage import Stage

NAME = 255  # bytes of a name
CLIENTS = 6
STEPS = 60


def mixed(stage: Stage, seed: int) -> None:
    """Several clients of one subject, each with a randomly drawn attack at its maximum size."""
    chance = Random(seed)  # noqa: S311 - no secret
    clients = [stage.json("all", deaf=chance.random() < 0.3) for _ in range(CLIENTS)]
    callers = [stage.wamp("callee") for _ in range(2)]
    for step in range(STEPS):
        kind = chance.choice(("subscribe", "publish", "command", "telemetry", "register", "call"))
        if kind == "call":
            chance.choice(callers).say([48, step + 1, {}, _name(chance), [_data(chance)]])
            continue
        for _ in range(chance.choice((1, 1, 10))):
            _say(chance.choice(clients), kind, chance)
    for client in (*clients, *callers):
        client.heed(0.05)


def _say(client: Client, kind: str, chance: Random) -> None:
    message: dict[str, Any] = {"type": kind}
    if kind == "subscribe":
        message |= {"events": _several(chance), "filters": _filters(chance)}
    elif kind == "publish":
        message |= {"eventType": _name(chance), "data": _data(chance)}
    elif kind == "command":
        targets = [f"{_name(chance)[:200]}{number}" for number in range(chance.choice((1, 1000)))]
        message |= {"command": _name(chance), "target": targets, "ttl": chance.choice((0, 1))}
        message["parameters"] = _data(chance, 8000)
    elif kind == "telemetry":
        message |= {"agentId": _name(chance), "metrics": {"m": _data(chance, 60_000)}}
    else:
        message |= {"agentId": _name(chance), "commands": _several(chance)}
    client.say(message)


def _name(chance: Random) -> str:
    words = chance.choice((1, 2, 30, 120))
    parts = [chance.choice("ab") for _ in range(words - 1)]
    return ".".join([*parts, "x" * chance.choice((1, NAME - 2 * words))])


def _several(chance: Random) -> list[str]:
    """Return one pattern or a hundred."""
    words = chance.choice((1, 2, 30, 120))
    return [".".join(chance.choice("ab*") for _ in range(words)) for _ in range(chance.choice((1, 100)))]


def _filters(chance: Random) -> dict[str, Any]:
    paths = [f"{'.'.join('a' * chance.choice((1, 30)))}{number}" for number in range(chance.choice((0, 1, 30)))]
    return {path: {"ne": "x" * chance.choice((1, 200))} for path in paths}


def _data(chance: Random, size: int = 200_000) -> Any:
    kind = chance.randrange(4)
    if kind == 0:
        return "x" * size
    if kind == 1:
        return [0] * (size // 2)
    if kind == 2:
        return {str(number): number for number in range(size // 14)}
    value: Any = "x" * (size // 2)
    for _ in range(25):
        value = {"a": value}
    return value
