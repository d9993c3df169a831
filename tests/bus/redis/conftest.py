"""Redis servers, nodes and networks that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.bus.gate import Gate
from tests.bus.redis.keeping import Keeper
from tests.redis_server import RedisServer


@pytest.fixture
def server() -> Iterator[Callable[..., RedisServer]]:
    """Starts servers, with these options of redis-server."""
    made: list[RedisServer] = []

    def make(*options: str) -> RedisServer:
        made.append(RedisServer(options=options))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def keeper() -> Iterator[Callable[..., Keeper]]:
    """Makes nodes with a history."""
    made: list[Keeper] = []

    def make(*arguments: Any, **named: Any) -> Keeper:
        made.append(Keeper(*arguments, **named))
        return made[-1]

    yield make
    for one in made:
        pytest_twisted.blockon(one.bus.stop())


@pytest.fixture
def gate(redis: RedisServer) -> Iterator[Gate]:
    """A network before the test's server that can fail."""
    made = Gate(redis.port)
    pytest_twisted.blockon(Deferred.fromCoroutine(made.open()))
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))
