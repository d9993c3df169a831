"""A node stands still for a while."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import pytest_twisted

from tests.redis_server import RedisServer, running
from tests.reliability.clients import later
from tests.reliability.fleet import Make, times
from tests.reliability.fleet import fleet as fleet


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    yield from running()


@pytest_twisted.ensureDeferred
async def test_a_node_stands_still(redis: RedisServer, fleet: Make) -> None:
    one = fleet(redis.url)
    await one.start()
    one.load()
    await one.under_load(30)
    one.nodes[0].signal(signal.SIGSTOP)
    await later(times(30, 4))
    one.nodes[0].signal(signal.SIGCONT)
    await one.ready()
    await one.visit()
    await one.under_load(30)
    await one.check()
