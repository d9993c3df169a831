"""WAMP's meta API with many sessions."""

from __future__ import annotations

from bench.harm.stage import Stage

CALL = 48


def matches(stage: Stage) -> None:
    """Look-ups of names that have never been used before."""
    client = stage.wamp("meta")
    for number in range(1, 2001):
        if not client.say([CALL, number, {}, "wamp.registration.match", [f"{number}.".ljust(200, "x")]]):
            break
    client.heed(0.5)


def sessions(stage: Stage) -> None:
    """Procedures that involve all sessions, called repeatedly."""
    for _ in range(200):
        stage.json("reader").ask({"type": "subscribe", "events": ["a.*"]})
    client = stage.wamp("meta")
    for number in range(1, 1001):
        procedure = ("wamp.session.count", "wamp.session.list", "wamp.subscription.list")[number % 3]
        if not client.say([CALL, number, {}, procedure]):
            break
    client.heed(0.5)
