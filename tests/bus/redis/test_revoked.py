"""Revocations on a real Redis: the same for all nodes, and one that cannot be kept is an error."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import pytest_twisted
from zope.interface.verify import verifyObject

from nexus_tw.interfaces.plugins import IRevoked
from nexus_tw.model.errors import NexusError
from tests.bus.redis.keeping import Keeper
from tests.redis_server import RedisServer


@pytest_twisted.ensureDeferred
async def test_they_are_kept_replaced_and_removed_for_all_nodes(
    server: Callable[..., RedisServer], keeper: Callable[..., Keeper]
) -> None:
    redis = server()
    one, other = keeper(redis.url), keeper(redis.url, "other")
    await one.start()
    await other.start()
    assert verifyObject(IRevoked, one.bus)
    assert await one.bus.revoked() == []
    for key, record in (("jti:a", b"1"), ("subject:ä", b"2"), ("jti:a", b"3")):
        await one.bus.revoke(key, record)
    assert sorted(await other.bus.revoked()) == [b"2", b"3"]
    await other.bus.unrevoke(["jti:a", "never"])
    assert await one.bus.revoked() == [b"2"]
    redis.ask("DEL", "nexus:revocations")
    redis.ask("SET", "nexus:revocations", "of another kind")
    with pytest.raises(NexusError) as refused:
        await one.bus.revoke("jti:a", b"1")
    assert refused.value.code == "bus_unavailable"


@pytest_twisted.ensureDeferred
async def test_while_redis_is_away_they_fail(server: Callable[..., RedisServer], keeper: Callable[..., Keeper]) -> None:
    one = keeper(server().url)
    for attempt in (one.bus.revoked(), one.bus.revoke("jti:a", b"1"), one.bus.unrevoke(["jti:a"])):
        with pytest.raises(NexusError) as refused:
            await attempt
        assert refused.value.code == "bus_unavailable"
