"""Fixtures of the tests of buses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
import pytest_twisted
from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from nexus_tw.bus.bounds import Bounds
from nexus_tw.bus.history import History
from nexus_tw.bus.memory import MemoryBroker
from nexus_tw.bus.redis.address import parse
from nexus_tw.bus.redis.bus import RedisBus
from nexus_tw.bus.retained import Retained
from nexus_tw.model import settings
from nexus_tw.model.metrics import Metrics
from tests.bus.nodes import Faults, FaultyBus, Make, MemoryFaults, Node, Pair, RedisFaults
from tests.bus.recording import Recorder, reactor
from tests.redis_server import RedisServer, SentinelServer, running

SHIPPED: Final = settings.History()
KEEPING: Final = ("memory", "redis")  # the buses that keep a history
ALL: Final = (*KEEPING, "memory without history", "redis without history", "sentinel")


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    yield from running()


@pytest.fixture(scope="module")
def sentinel(redis_server: RedisServer) -> Iterator[SentinelServer]:
    server = SentinelServer(redis_server.port)
    server.start()
    yield server
    server.close()


@pytest.fixture
def bus_metrics() -> Metrics:
    """The metrics of all buses of a test together."""
    return Metrics()


@pytest.fixture(params=ALL)
def make(request: pytest.FixtureRequest, bus_metrics: Metrics) -> Make:
    if request.param.startswith("memory"):
        brokers: dict[str, MemoryBroker] = {}

        def made(node: str, realm: str = "nexus", history: settings.History = SHIPPED) -> FaultyBus:
            if realm not in brokers:
                kept = History(Bounds(history), bus_metrics) if request.param == "memory" else None
                brokers[realm] = MemoryBroker(reactor, kept, retained=Retained(bus_metrics))
            return FaultyBus(brokers[realm], node)

        return made
    server = request.getfixturevalue("redis_server")
    server.ask("FLUSHALL")  # what other tests have left
    url = server.url
    if request.param == "sentinel":
        url = f"redis+sentinel://127.0.0.1:{request.getfixturevalue('sentinel').port}/nexus"
    keeps = request.param != "redis without history"

    def linked(node: str, realm: str = "nexus", history: settings.History = SHIPPED) -> RedisBus:
        return RedisBus(parse(url), reactor, bus_metrics, node, realm, history=history if keeps else None)

    return linked


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    return MemoryFaults() if request.node.callspec.params["make"].startswith("memory") else RedisFaults()


@pytest.fixture
def pair(make: Make) -> Iterator[Pair]:
    nodes = Node(make("one"), Recorder()), Node(make("two"), Recorder())
    for node in nodes:
        pytest_twisted.blockon(node.bus.start(node.heard))
    yield nodes
    for node in nodes:
        pytest_twisted.blockon(node.bus.stop())



@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Collect the log lines at warning or above, and those of the bus, with tracebacks."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: Any) -> None:
        if event["log_level"] >= LogLevel.warn or event["log_namespace"].startswith("nexus_tw.bus"):
            trace = event["log_failure"].getTraceback() if "log_failure" in event else ""
            lines.append(formatEvent(event) + trace)

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def flush(logged: list[str]) -> Callable[[], int]:
    """Return the number of logged failures."""
    return lambda: sum("Traceback" in line for line in logged)
