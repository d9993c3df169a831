"""Redis as the bus: the load of matching and forwarding, and the backlog while it is suspended."""

from __future__ import annotations

from bench.harm.rows import publications
from bench.harm.stage import Stage

CONNECTIONS = 64
PATTERNS = 128  # of each: what one connection may subscribe to
AWAY = 5.0  # s


def wildcards(stage: Stage) -> None:
    """The maximum number of patterns with stars for one subject, and small events that Redis has to match against each."""
    for number in range(CONNECTIONS):
        events = [f"*.{number}.*.{pattern}.*" for pattern in range(PATTERNS)]
        stage.json("reader").ask({"type": "subscribe", "events": events})
    publisher = stage.json("publisher")
    for number in range(2000):
        if not publisher.say({"type": "publish", "eventType": f"a.b.c.d.e.{number % 100}", "data": {}}):
            break
    publisher.heed(0.5)


def away(stage: Stage) -> None:
    """Redis is suspended for some seconds, and then resumes."""
    with stage.node.without_redis():
        publications.events(stage)
        stage.json("reader").heed(AWAY)
    stage.json("reader").heed(2.0)
