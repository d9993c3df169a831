"""Connections: the rate of opening them, and their memory."""

from __future__ import annotations

from dataclasses import replace
from time import sleep
from typing import Final

from bench.crowd import Crowd, need_descriptors
from bench.meter import Measure, Meter, resident
from bench.target import Target, Time

EVENT: Final = "task.updated"
FIRST_FEW: Final = 50  # connections that fill the server's caches before anything is measured
CALM: Final = 0.5  # s after which a server has finished its work for a new connection


def handshakes(target: Target, time: Time, together: int, at_once: int) -> Measure:
    """Open `together` connections, `at_once` concurrently, close them and start again.

    Messages are connections that are open, greeted and subscribed. Closing is part of the cost, since each is opened again.
    """
    need_descriptors(together)
    meter = Meter(target, time, {})
    hello = target.dialect.subscription(EVENT)
    opened = 0
    while (measure := meter.look(opened)) is None:
        with Crowd(target, time) as crowd:
            crowd.open([hello] * together, at_once)
        opened += together
    return measure


def memory(target: Target, time: Time, connections: int) -> Measure:
    """Hold idle connections that are subscribed; messages are connections, `kB_each` is the memory of one."""
    need_descriptors(connections + FIRST_FEW)
    hello = target.dialect.subscription(EVENT)
    with Crowd(target, time) as crowd:
        crowd.open([hello] * FIRST_FEW)
        sleep(CALM)
        before = resident(target.pids)
        meter = Meter(target, Time(0, 0), {})
        meter.look(0)
        crowd.open([hello] * connections)
        measure = meter.look(connections)
        assert measure is not None
        sleep(CALM)
        grown = resident(target.pids) - before
        crowd.settle()
    return replace(measure, figures={"kB_each": grown / connections / 1e3})
