"""Retained events on a real Redis: bounds, expiry, and what remains after faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from nexus_tw.bus.redis import retained
from nexus_tw.bus.redis.scripts import MAX_RETAINED, MAX_RETAINED_BYTES, RETAINED_COST
from nexus_tw.model.errors import NexusError
from nexus_tw.model.settings import History, Kept
from tests.bus.recording import placed, reactor, subscribed, until
from tests.bus.redis.keeping import Keeper
from tests.bus.redis.test_history import HISTORY_RIGHTS, RIGHTS
from tests.bus.retaining import answer, asked, found, retain
from tests.redis_server import RedisServer

PERSISTENT = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def redis(server: Callable[..., RedisServer]) -> RedisServer:
    return server()


def consistent(redis: RedisServer) -> int:
    """Return the number of retained events, after checking keys and both indices against each other."""
    sizes = redis.ask("HGETALL", "nexus:retained:sizes")
    known = {name: int(size) for name, size in zip(sizes[::2], sizes[1::2], strict=True)}
    total = known.pop(b"", 0)
    assert total == sum(known.values())
    types = redis.ask("ZRANGE", "nexus:retained", "0", "-1")
    assert sorted(known) == sorted(types)
    assert sorted(redis.ask("KEYS", "nexus:retained:{*")) == sorted(b"nexus:retained:{%b}" % name for name in types)
    return len(types)


async def fill(one: Keeper, names: list[str], data: bytes = b"1") -> None:
    """Retain an event of each type, in one turn."""
    answers: list[Any] = []
    for name in names:
        one.bus.publish(name, data, answers.append, asked(7))
    await until(lambda: len(answers) == len(names))
    assert not any(isinstance(each, NexusError) for each in answers)


@pytest_twisted.ensureDeferred
async def test_their_number_is_bounded_and_the_oldest_go(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    one, other = keeper(redis.url), keeper(redis.url, "other")
    await one.start()
    await other.start()
    await fill(one, ["old.1", "old.2", "old.3"])
    await deferLater(reactor, 0.002)  # the index counts in ms
    names = [f"a.{number}" for number in range(MAX_RETAINED - 1)]
    await fill(one, names)
    await deferLater(reactor, 0.002)
    assert [event.event_type for event in await found(one.bus, "old.*")] == ["old.3"]
    assert consistent(redis) == one.metrics.retained_events == MAX_RETAINED
    assert one.metrics.retained_evicted == 2
    kept = await retain(other.bus, "new")
    assert other.metrics.retained_evicted == 1
    events = await found(other.bus)
    assert events[-1] == kept
    assert sorted(event.event_type for event in events) == sorted([*names, "new"])
    assert consistent(redis) == MAX_RETAINED


@pytest_twisted.ensureDeferred
async def test_their_bytes_are_bounded(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    one = keeper(redis.url)
    await one.start()
    each = MAX_RETAINED_BYTES // 20
    data = b"1" * (each - RETAINED_COST - len(asked(7)))
    for number in range(23):
        await retain(one.bus, f"a.{number}", data)
        await deferLater(reactor, 0.002)
    assert [event.event_type for event in await found(one.bus)] == [f"a.{number}" for number in range(3, 23)]
    assert consistent(redis) == 20
    assert one.metrics.retained_bytes == 20 * each
    assert one.metrics.retained_evicted == 3
    await retain(one.bus, "a.22", b"1")
    assert one.metrics.retained_bytes == 19 * each + RETAINED_COST + len(asked(7)) + 1
    assert consistent(redis) == 20


@pytest_twisted.ensureDeferred
async def test_many_are_read_in_parts(
    redis: RedisServer, keeper: Callable[..., Keeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retained, "TYPES_AT_ONCE", 7)
    one = keeper(redis.url)
    await one.start()
    names = sorted(f"a.{number}" for number in range(50))
    await fill(one, [*names, "b"], b'"%s"' % (b"x" * 100))
    for enough in (2097152, 250, 1):
        monkeypatch.setattr(retained, "ANSWER_BYTES", enough)
        assert sorted(event.event_type for event in await found(one.bus, "a.*")) == names


@pytest_twisted.ensureDeferred
async def test_they_expire_like_the_state_of_their_type(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    day = 86400000
    one = keeper(redis.url, history=History(age=60, patterns={"long.*": Kept(age=100 * 86400.0)}))
    await one.start()
    await retain(one.bus, "a")
    await retain(one.bus, "long.a")
    for name, most in (("a", day), ("long.a", 200 * day)):
        assert most - 60000 < int(redis.ask("PTTL", f"nexus:retained:{{{name}}}")) <= most
    # As if that day were over.
    redis.ask("UNLINK", "nexus:retained:{a}")
    redis.ask("ZADD", "nexus:retained", "1", "a")
    assert [event.event_type for event in await found(one.bus)] == ["long.a"]
    assert await found(one.bus, "a") == []
    await retain(one.bus, "b")
    assert [event.event_type for event in await found(one.bus)] == ["b", "long.a"]
    assert consistent(redis) == one.metrics.retained_events == 2
    assert one.metrics.retained_evicted == 0, "it was not dropped for others"


@pytest_twisted.ensureDeferred
async def test_a_type_without_history_has_none(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    one = keeper(redis.url, history=History(patterns={"none.*": Kept(count=0)}))
    await one.start()
    assert (await retain(one.bus, "none.a")).position is None
    kept = await retain(one.bus, "some")
    assert await found(one.bus) == [kept]


@pytest_twisted.ensureDeferred
async def test_without_any_history_nothing_is_retained(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    one = keeper(redis.url, history=History(count=0))
    await one.start()
    assert one.bus.retained is None
    assert await placed(one.bus, "a", b"1", asked(1)) is None
    assert sorted(redis.ask("KEYS", "*")) == [b"nexus:run", b"nexus:timeline", b"nexus:types"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("missing", ["+evalsha", "+script|load", "~nexus:*"])
async def test_without_scripts_nothing_is_retained(
    redis: RedisServer, keeper: Callable[..., Keeper], missing: str
) -> None:
    """What the manual names is enough, and counts from the next link on."""
    rights = [right for right in (*RIGHTS, *HISTORY_RIGHTS, "~nexus:*") if right != missing]
    redis.ask("ACL", "SETUSER", "nexus", "on", ">secret", "allchannels", *rights)
    one = keeper(f"redis://nexus:secret@127.0.0.1:{redis.port}/0")
    await one.start()
    assert one.bus.available and one.bus.retained is None
    await subscribed(one.bus, "a")
    assert await placed(one.bus, "a", b"1", asked(1)) is None
    await until(lambda: one.heard.events == [("a", b"1")])
    redis.ask("ACL", "SETUSER", "nexus", missing)
    redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: one.heard.changes == ["lost", "restored"])
    assert await found(one.bus) == []
    kept = await retain(one.bus, "a")
    assert await found(one.bus) == await found(one.bus, "a") == [kept]


@pytest_twisted.ensureDeferred
async def test_what_redis_refuses_to_publish_is_not_retained(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    redis.ask("ACL", "SETUSER", "nexus", "on", ">secret", "+@all", "~*", "resetchannels", "&nexus:node*", "&nexus:canary:*")
    redis.ask("ACL", "SETUSER", "nexus", "&nexus:about:*", "&nexus:events:good")
    one = keeper(f"redis://nexus:secret@127.0.0.1:{redis.port}")
    await one.start()
    answers: list[Any] = []
    for name, data in (("bad", b"1"), ("good", b"2"), ("bad", b"3")):
        one.bus.publish(name, data, answers.append, asked(7))
    await until(lambda: len(answers) == 3)
    assert [event.data for event in await found(one.bus)] == [b"2"]
    assert isinstance(await placed(one.bus, "bad", b"4", asked(7)), NexusError)
    assert consistent(redis) == 1


@pytest_twisted.ensureDeferred
async def test_after_a_flush_there_is_none(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    one = keeper(redis.url)
    await one.start()
    await retain(one.bus, "a", b"1")
    redis.ask("FLUSHALL")
    assert (await answer(one.bus, "a")).code == "bus_unavailable"
    await until(lambda: one.heard.changes == ["lost", "restored"])
    assert await found(one.bus) == []
    kept = await retain(one.bus, "b", b"2")
    assert await found(one.bus) == [kept]
    assert one.metrics.retained_events == consistent(redis) == 1


@pytest_twisted.ensureDeferred
async def test_they_survive_a_restart_as_far_as_redis_does(
    server: Callable[..., RedisServer], keeper: Callable[..., Keeper]
) -> None:
    redis = server(*PERSISTENT)
    one = keeper(redis.url)
    await one.start()
    first, second = await retain(one.bus, "a"), await retain(one.bus, "b")
    redis.kill()
    await until(lambda: one.heard.changes == ["lost"])
    assert (await answer(one.bus, "a")).code == "bus_unavailable"
    redis.start()
    await until(lambda: one.bus.available)
    assert sorted(await found(one.bus)) == [first, second]
    third = await retain(one.bus, "a", b"3")
    assert third.position is not None and first.position is not None
    assert third.position.offset == first.position.offset + 1
    assert sorted(await found(one.bus)) == [third, second]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("key", ["nexus:retained", "nexus:retained:sizes", "nexus:retained:{a}"])
async def test_a_key_that_is_evicted_loses_events_and_no_bound(
    redis: RedisServer, keeper: Callable[..., Keeper], key: str
) -> None:
    one = keeper(redis.url)
    await one.start()
    await fill(one, ["a", "b"])
    redis.ask("UNLINK", key)
    kept = await retain(one.bus, "c")
    left = {"nexus:retained": ["c"], "nexus:retained:sizes": ["a", "b", "c"], "nexus:retained:{a}": ["b", "c"]}[key]
    assert sorted(event.event_type for event in await found(one.bus)) == left
    assert await found(one.bus, "c") == [kept]
    if key == "nexus:retained":
        assert sorted(redis.ask("HKEYS", "nexus:retained:sizes")) == [b"", b"c"], "nothing counts that is in no index"
    await fill(one, ["a", "b", "c"])
    assert consistent(redis) == 3


@pytest_twisted.ensureDeferred
async def test_scripts_that_redis_forgot_are_loaded_again(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    one = keeper(redis.url)
    await one.start()
    redis.ask("SCRIPT", "FLUSH")
    kept = await retain(one.bus, "a")
    redis.ask("SCRIPT", "FLUSH")
    assert await found(one.bus) == [kept]
    redis.ask("SCRIPT", "FLUSH")
    assert await found(one.bus, "a") == [kept]


@pytest_twisted.ensureDeferred
async def test_without_memory_none_is_replaced(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    one = keeper(redis.url)
    await one.start()
    kept = await retain(one.bus, "a")
    redis.ask("CONFIG", "SET", "maxmemory", "1")
    assert isinstance(await placed(one.bus, "a", b"2", asked(8)), NexusError)
    assert await found(one.bus) == [kept]
