"""The cells of the comparison, by name: a scenario with its sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from bench.dialects import HISTORY, JSON, WAMP, Dialect
from bench.meter import Measure
from bench.scenarios.calls import calls
from bench.scenarios.crowds import handshakes, memory
from bench.scenarios.fanout import fanout
from bench.scenarios.filters import filters
from bench.scenarios.fleet import fleet
from bench.scenarios.publications import publications
from bench.scenarios.recovery import storm
from bench.scenarios.requests import ping, telemetry
from bench.target import Target, Time


@dataclass(frozen=True)
class Cell:
    """A scenario with its sizes. `unit` is the unit of messages; `value` names the figure to compare: the rate, or one of the
    scenario's own. It runs on servers that speak `dialect`."""

    title: str
    unit: str
    run: Callable[[Target, Time], Measure]
    value: str = "rate"
    dialect: Dialect = JSON


def _fan(subscribers: int, window: int, size: int = 100, dialect: Dialect = JSON) -> Cell:
    way = "one event at a time" if window == 1 else f"{window} events under way"
    over = "" if dialect is JSON else f"{dialect.name}: "
    title = f"{over}Fan-out to {subscribers:,} subscribers, {way}, {size:,} bytes"
    return Cell(title, "deliveries", partial(fanout, subscribers=subscribers, window=window, size=size), dialect=dialect)


def _filters(different: int) -> Cell:
    title = f"{different:,} different filters, one of which matches; 16 events under way"
    return Cell(title, "events", partial(filters, different=different, window=16))


CELLS: Final = {
    "fan1w1": _fan(1, 1),
    "fan10w1": _fan(10, 1),
    "fan100w1": _fan(100, 1),
    "fan100w64": _fan(100, 64),
    "fan1000w1": _fan(1000, 1),
    "fan1000w64": _fan(1000, 64),
    "fan10000w1": _fan(10000, 1),
    "fan100-64": _fan(100, 1, 64),
    "fan100-1k": _fan(100, 1, 1024),
    "fan100-4k": _fan(100, 1, 4096),
    "fan100-16k": _fan(100, 1, 16384),
    "fan100-60k": _fan(100, 1, 61440),
    "telemetry": Cell("Telemetry, acknowledged: 64 connections, 16 in flight on each", "acknowledgements",
                      partial(telemetry, connections=64, window=16)),
    "telemetry1": Cell("Telemetry, acknowledged: 1 connection, 1 in flight", "acknowledgements",
                       partial(telemetry, connections=1, window=1)),
    "ping1": Cell("JSON ping, 1 connection", "pongs", partial(ping, connections=1, window=1)),
    "ping64": Cell("JSON ping, 64 connections", "pongs", partial(ping, connections=64, window=1)),
    "handshakes": Cell("Handshakes: upgrade, greeting and a subscription; 64 under way", "connections",
                       partial(handshakes, together=500, at_once=64)),
    "memory": Cell("Memory of an idle connection", "connections", partial(memory, connections=2000), "kB_each"),
    "filters10": _filters(10),
    "filters1000": _filters(1000),
    "filters10000": _filters(10000),
    "fleet": Cell("Fleet: 500 agents at 1 message/s, 20 watch all, 500 watch one, 50 commands/s", "messages",
                  partial(fleet, agents=500, rate=1, watchers=20, commands=50)),
    "recovery": Cell("Reconnect storm: 1,000 subscribers, each of which missed 500 events", "deliveries",
                     partial(storm, subscribers=1000, missed=500), dialect=HISTORY),
    "recovery-publish": Cell("Acknowledged publications: 64 connections, 16 in flight on each", "acknowledgements",
                             partial(publications, connections=64, window=16), dialect=HISTORY),
    "recovery-publish1": Cell("Acknowledged publications: 1 connection, 1 in flight", "acknowledgements",
                              partial(publications, connections=1, window=1), dialect=HISTORY),
    "wamp-fan100w1": _fan(100, 1, dialect=WAMP),
    "wamp-fan100w64": _fan(100, 64, dialect=WAMP),
    "wamp-fan1000w1": _fan(1000, 1, dialect=WAMP),
    "wamp-fan1000w64": _fan(1000, 64, dialect=WAMP),
    "wamp-publish": Cell("WAMP: acknowledged publications: 64 connections, 16 in flight on each", "acknowledgements",
                         partial(publications, connections=64, window=16), dialect=WAMP),
    "wamp-publish1": Cell("WAMP: acknowledged publications: 1 connection, 1 in flight", "acknowledgements",
                          partial(publications, connections=1, window=1), dialect=WAMP),
    "wamp-call": Cell("WAMP: calls: 64 connections, 16 in flight on each", "results",
                      partial(calls, connections=64, window=16), dialect=WAMP),
    "wamp-call1": Cell("WAMP: calls: 1 connection, 1 in flight", "results",
                       partial(calls, connections=1, window=1), dialect=WAMP),
    "wamp-memory": Cell("WAMP: memory of an idle session", "sessions", partial(memory, connections=2000), "kB_each", WAMP),
}  # fmt: skip
