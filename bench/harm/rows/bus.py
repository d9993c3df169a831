"""Redis as the bus: what it is asked to compare and to carry, and what waits while it stands still."""

from __future__ import annotations

from bench.harm.rows import publications
from bench.harm.stage import Stage

CONNECTIONS = 64
PATTERNS = 128  # of each: what one connection may subscribe to
AWAY = 5.0  # s


def wildcards(stage: Stage) -> None:
    """As many patterns with stars as a subject may have, and small events that Redis has to compare with each."""
    for number in range(CONNECTIONS):
        events = [f"*.{number}.*.{pattern}.*" for pattern in range(PATTERNS)]
        stage.json("reader").ask({"type": "subscribe", "events": events})
    publisher = stage.json("publisher")
    for number in range(2000):
        if not publisher.say({"type": "publish", "eventType": f"a.b.c.d.e.{number % 100}", "data": {}}):
            break
    publisher.heed(0.5)


def away(stage: Stage) -> None:
    """Redis takes nothing for some seconds, and then it is back."""
    with stage.node.without_redis():
        publications.events(stage)
        stage.json("reader").heed(AWAY)
    stage.json("reader").heed(2.0)
