"""Agents: their ids and their telemetry."""

from __future__ import annotations

from bench.harm.stage import Stage


def ids(stage: Stage) -> None:
    """60,000 agent ids that go online and offline with one connection."""
    client = stage.json("agent")
    for number in range(60_000):
        if not client.say({"type": "register", "agentId": f"agent-{number}", "commands": []}):
            break
    client.heed(1.0)
    client.close()


def telemetry(stage: Stage) -> None:
    """Samples of 8 kB for its own agent, as fast as they are accepted."""
    client = stage.json("sensor")
    message = {"type": "telemetry", "agentId": "sensor", "metrics": {f"m{number}": "x" * 250 for number in range(30)}}
    while stage.tally.sent < 40 << 20 and client.say(message):
        pass
