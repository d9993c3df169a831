"""Connections themselves: how fast they come, and what they weigh."""

from __future__ import annotations

from time import perf_counter, sleep
from typing import Final

from bench.crowd import Crowd, Hello, need_descriptors
from bench.meter import Measure, Meter, resident
from bench.target import Target, Time

HELLO: Final[Hello] = (({"type": "subscribe", "events": ["task.updated"]}, "subscribed"),)
FIRST_FEW: Final = 50  # connections that fill the server's caches before anything is measured
CALM: Final = 0.5  # s after which a server has done what it does once for a connection


def handshakes(target: Target, time: Time, together: int, at_once: int) -> Measure:
    """Opens `together` connections, `at_once` under way at a time, drops them and begins again.

    Messages are connections that are open, greeted and subscribed. Dropping them counts too: they come again as often.
    """
    need_descriptors(together)
    opened = measured = 0
    begin = perf_counter() + time.warmup
    meter = None
    while True:
        now = perf_counter()
        if meter is None and now >= begin:
            meter = Meter(target.pids, opened)
            measured = opened
        elif meter is not None and now >= begin + time.seconds and opened > measured:
            return meter.stop(opened, {})
        with Crowd(target.address) as crowd:
            crowd.open([HELLO] * together, at_once)
        opened += together


def memory(target: Target, time: Time, connections: int) -> Measure:
    """Holds idle connections that are subscribed; messages are connections, `kB_each` what one of them adds."""
    need_descriptors(connections + FIRST_FEW)
    with Crowd(target.address) as crowd:
        crowd.open([HELLO] * FIRST_FEW)
        sleep(CALM)
        before = resident(target.pids)
        meter = Meter(target.pids, 0)
        crowd.open([HELLO] * connections)
        measure = meter.stop(connections, {})
        sleep(CALM)
        grown = resident(target.pids) - before
        crowd.settle(time.settle)
    return Measure(
        measure.messages, measure.seconds, measure.server, measure.tool, measure.others, {"kB_each": grown / connections / 1e3}
    )
