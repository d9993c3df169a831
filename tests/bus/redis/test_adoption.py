"""`bus.adopt`: events of other programs get a place in the history, once, the same on every node."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.bus.gate import Gate, pass_on
from tests.bus.recording import pattern, reactor, subscribed, until
from tests.bus.redis.keeping import Keeper, texts
from tests.redis_server import RedisServer, running


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    yield from running()


@pytest.fixture
def keeper() -> Iterator[Callable[..., Keeper]]:
    made: list[Keeper] = []

    def make(*arguments: Any, **named: Any) -> Keeper:
        made.append(Keeper(*arguments, adopt=True, **named))
        return made[-1]

    yield make
    for one in made:
        pytest_twisted.blockon(one.bus.stop())


async def adopted(nodes: list[Keeper], least: int) -> int:
    """How many events these nodes have adopted: each counts when it is answered, which may be after it has heard the event."""

    def count() -> int:
        return sum(node.metrics.events_adopted for node in nodes)

    await until(lambda: count() >= least)
    return count()


@pytest_twisted.ensureDeferred
async def test_a_foreign_event_gets_one_position_on_every_node_and_is_recovered(
    redis: RedisServer, keeper: Callable[..., Keeper]
) -> None:
    """Also the very first of a type; also where several subscriptions match, of nodes that came one after the other."""
    one, two = keeper(redis.url), keeper(redis.url, "two")
    for node in (one, two):
        await node.start()
        await subscribed(node.bus, "a", "a.**", "**")
    assert redis.ask("PUBLISH", "nexus:events:a", "1") == 4
    await until(lambda: one.heard.events and two.heard.events)
    at = await two.publish("a", b"2")
    redis.ask("PUBLISH", "nexus:events:a.x", '"same"')
    redis.ask("PUBLISH", "nexus:events:a.x", '"same"')
    redis.ask("PUBLISH", "nexus:events:a", "{")
    redis.ask("PUBLISH", "nexus:events:a", "3")
    for node in (one, two):
        await until(lambda node=node: len(node.heard.events) == 5)  # type: ignore[misc]
    for node in (one, two):
        places = [position and position.offset for position in node.heard.positions]
        found = [(*event, place) for event, place in zip(node.heard.events, places, strict=True)]
        assert sorted(found) == sorted(
            [("a", b"1", 1), ("a", b"2", 2), ("a", b"3", 3), ("a.x", b'"same"', 1), ("a.x", b'"same"', 2)]
        )
    assert texts(await one.read("a", at._replace(offset=0))) == [b"1", b"2", b"3"]
    assert await adopted([one, two], 4) == 4
    assert one.metrics.bus_invalid == two.metrics.bus_invalid == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("seed", range(4))
async def test_equal_payloads_while_nodes_and_subscriptions_come_and_go_are_adopted_exactly_once(
    redis: RedisServer, keeper: Callable[..., Keeper], seed: int
) -> None:
    """Every foreign event is in the history once; each node hears from its subscription on exactly what the history says."""
    chance = random.Random(seed)
    nodes = [keeper(redis.url, "first"), keeper(redis.url, "second")]
    for node in nodes:
        await node.start()
        await subscribed(node.bus, "t")
    late: list[Keeper] = []
    ours = theirs = 0
    with socket.create_connection(("127.0.0.1", redis.port), timeout=5) as other, other.makefile("rb") as answers:
        for number in range(400):
            way = chance.random()
            if way < 0.5:
                count = chance.randint(1, 5)
                theirs += count
                other.sendall(b"PUBLISH nexus:events:t same\r\n".replace(b"same", b"7") * count)
                for _ in range(count):
                    answers.readline()
            elif way < 0.8:
                ours += 1
                chance.choice(nodes).bus.publish("t", b'"own"', lambda _: None, chance.choice([b"", b"about"]))
            elif way < 0.84:
                late.append(keeper(redis.url, f"late {number}"))
                await late[-1].start()
                await subscribed(late[-1].bus, chance.choice(["t", "*"]))
            elif way < 0.9:
                text = chance.choice(["*", "t.**", "**"])
                node = nodes[0]
                node.bus.subscribe(pattern(text), lambda: None)
                node.bus.unsubscribe(pattern(text))
            else:
                await deferLater(reactor, 0)
    for node in nodes:
        await until(lambda node=node: len(node.heard.events) >= ours + theirs)  # type: ignore[misc]
    page = await nodes[0].page("t", None, 5000)
    kept = [event.data for event in page.events]
    assert len(kept) == page.top.offset == ours + theirs
    assert kept.count(b"7") == theirs
    for node in [*nodes, *late]:
        await until(lambda node=node: not node.heard.positions or node.heard.positions[-1] == page.top)  # type: ignore[misc]
        expected = kept[len(kept) - len(node.heard.events) :]
        assert [data for _, data in node.heard.events] == expected
        offsets = [position.offset for position in node.heard.positions if position is not None]
        assert offsets == list(range(len(kept) - len(expected) + 1, len(kept) + 1))
    assert await adopted([*nodes, *late], theirs) == theirs


@pytest_twisted.ensureDeferred
async def test_a_node_that_dies_with_what_it_would_have_adopted_leaves_it_to_others(
    redis: RedisServer, keeper: Callable[..., Keeper]
) -> None:
    """One of two stands behind a gate that swallows its calls, then is cut off."""
    gate = Gate(redis.port)
    await gate.open()
    try:
        gone, stays = keeper(gate.url, "gone"), keeper(redis.url, "stays")
        for node in (gone, stays):
            await node.start()
            await subscribed(node.bus, "t")
        gate.answer = lambda command: b"" if command[0] == b"EVALSHA" and b"canary" not in command[-2] else None
        for number in range(20):
            redis.ask("PUBLISH", "nexus:events:t", str(number))
        await until(lambda: len(stays.heard.events) == 20)
        assert [position and position.offset for position in stays.heard.positions] == list(range(1, 21))
        await until(lambda: len(gone.heard.events) == 20)
        gate.answer = pass_on
        redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: stays.heard.changes == gone.heard.changes == ["lost", "restored"])
        assert (await gone.publish("t", b"end")).offset == 21
    finally:
        for node in (gone, stays):
            await node.bus.stop()
        await gate.close()


@pytest_twisted.ensureDeferred
async def test_a_foreign_event_that_redis_has_no_room_for_is_live(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    """It has no position then, and comes once."""
    one = keeper(redis.url)
    await one.start()
    await subscribed(one.bus, "t")
    redis.ask("CONFIG", "SET", "maxmemory", "1")
    redis.ask("PUBLISH", "nexus:events:t", "1")
    await until(lambda: one.heard.events)
    redis.ask("CONFIG", "SET", "maxmemory", "0")
    redis.ask("PUBLISH", "nexus:events:t", "2")
    await until(lambda: len(one.heard.events) == 2)
    assert [position and position.offset for position in one.heard.positions] == [None, 1]


@pytest_twisted.ensureDeferred
async def test_subscribing_while_the_link_ends_is_answered(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    """Whoever waits for a mark that does not come back is told when the link is gone."""
    one = keeper(redis.url)
    await one.start()
    done: Deferred[None] = Deferred()
    one.bus.subscribe(pattern("t"), lambda: done.callback(None))
    redis.kill()
    await done
    redis.start()
    await until(lambda: one.bus.available)
    redis.ask("PUBLISH", "nexus:events:t", "1")
    await until(lambda: one.heard.events)
    assert one.heard.positions[0] is not None
