"""A link to Redis that is lost is freed by counting references, with all that it could not send."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import pytest_twisted

from nexus_tw.bus.redis.address import parse
from nexus_tw.bus.redis.bus import RedisBus
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import History
from tests.bus.recording import Recorder, pattern, reactor, subscribed, until
from tests.hardening.test_cycles import left as left
from tests.node import turns
from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("count", [0, 1000])
async def test_with_the_collector_off_nothing_is_left_of_a_link_that_was_lost(
    redis_server: RedisServer, left: Callable[[], Counter[str]], count: int
) -> None:
    bus = RedisBus(parse(redis_server.url), reactor, Metrics(), "node-1", history=History(count=count), adopt=bool(count))
    await bus.start(Recorder())
    await subscribed(bus, "a.*")

    async def lose() -> None:
        redis_server.pause()
        for _ in range(100):
            bus.publish("a.b", b'"%b"' % (b"x" * 100_000), lambda error: None)
        await turns()
        redis_server.kill()
        await until(lambda: not bus.available)
        redis_server.start()
        await until(lambda: bus.available)
        bus.unsubscribe(pattern("a.*"))
        await subscribed(bus, "a.*")
        await turns()

    await lose()  # what is there once for all
    left()
    for _ in range(2):
        await lose()
    # Twisted's look-up of names leaves small circles of its own, which hold nothing of the connection.
    ours = [kind for kind in left() if kind.startswith(("nexus_tw.", "twisted.internet.tcp.Client"))]
    assert ours == []
    await bus.stop()
