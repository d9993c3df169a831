"""Redis is killed and started again, under load: with all it had, with an old copy, with nothing."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.redis_server import RedisServer
from tests.reliability.fleet import Make, times
from tests.reliability.fleet import fleet as fleet

OPTIONS = {
    "append-only file": ("--appendonly", "yes", "--appendfsync", "everysec"),
    "an old copy": (),
    "nothing": (),
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("keeps", list(OPTIONS))
async def test_redis_is_killed_and_started_again(fleet: Make, keeps: str) -> None:
    redis = RedisServer(password="pass/word", options=OPTIONS[keeps])
    try:
        redis.start()
        one = fleet(redis.url.replace("pass/word", "pass%2Fword"))
        await one.start()
        one.load()
        for number in range(times(20, 3)):
            await one.under_load(times(100, 30))
            if keeps == "an old copy" and number % 5 == 0:
                assert redis.ask("SAVE") == b"OK"
            await one.visit()
            redis.kill()
            await one.lost()
            redis.start()
            await one.ready()
        await one.visit()
        await one.check()
        recovered = sum(visitor.watcher.recoveries for visitor in one.visitors)
        gaps = sum(subscriber.watcher.gaps for subscriber in one.watchers)
        # Clients on the same connection miss nothing where Redis kept everything, and are told where it did not.
        assert recovered > 0
        assert (gaps > 0) or keeps == "append-only file"
    finally:
        redis.close()
