"""Connections that open and close."""

from __future__ import annotations

from bench.harm.stage import Stage


def visits(stage: Stage) -> None:
    """2,000 ordinary clients, one after another."""
    for number in range(2000):
        if stage.late:
            break
        client = stage.json("reader")
        client.ask({"type": "subscribe", "events": [f"event-{number}"]})
        client.close()
