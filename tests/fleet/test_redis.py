"""A fleet over a real Redis, with its faults. Several nodes in one process, whose beats follow each other closely."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from nexus_tw.bus.redis.address import parse
from nexus_tw.bus.redis.bus import RedisBus
from nexus_tw.fleet.fleet import BusFleet
from nexus_tw.fleet.membership import Pace
from nexus_tw.model.metrics import Metrics
from nexus_tw.runtime.turn import Turn
from tests.bus.gate import Gate
from tests.bus.recording import reactor, until
from tests.fleet.world import Listener, Recording, Told
from tests.redis_server import RedisServer, redis_server

__all__ = ["redis_server"]

PACE = Pace(beat=0.1, silence=1.0, fence=0.6)


class Node:
    """A node with a part named `part`."""

    def __init__(self, url: str, name: str) -> None:
        self.metrics = Metrics()
        self.bus = RedisBus(parse(url), reactor, self.metrics, name)
        self.fleet = BusFleet(self.bus, Turn(reactor).add, reactor, self.metrics, PACE)
        self.part = Recording(self.fleet)
        self.fleet.take_part("part", self.part, self.part.asked)
        self.running = True

    async def start(self) -> None:
        await self.bus.start(Listener(self.fleet))
        self.fleet.start()

    async def stop(self) -> None:
        if self.running:
            self.running = False
            self.fleet.stop()
            await self.bus.stop()

    def got(self, *calls: Told) -> Callable[[], bool]:
        return lambda: self.part.calls == list(calls)


@pytest.fixture
def node() -> Iterator[Callable[..., Node]]:
    made: list[Node] = []

    def make(url: str, name: str) -> Node:
        made.append(Node(url, name))
        return made[-1]

    yield make
    for one in made:
        pytest_twisted.blockon(Deferred.fromCoroutine(one.stop()))


@pytest.fixture
def gate(redis_server: RedisServer) -> Iterator[Gate]:
    made = Gate(redis_server.port)
    pytest_twisted.blockon(Deferred.fromCoroutine(made.open()))
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


async def joined(*nodes: Node) -> None:
    """Start nodes, and wait until they know each other."""
    for one in nodes:
        await one.start()
    names = {one.fleet.node for one in nodes}
    for one in nodes:
        await until(lambda one=one: {one.fleet.node, *one.fleet.members} == names)  # type: ignore[misc]
        one.part.calls.clear()


async def told(one: Node, two: Node, *bodies: bytes) -> None:
    """Tell another node, and wait until it has got just that."""
    two.part.got.clear()
    for body in bodies:
        one.fleet.tell(two.fleet.node, "part", body)
    await until(lambda: sum(map(len, two.part.got.values())) >= len(bodies))
    assert two.part.got == {one.fleet.node: list(bodies)}


@pytest_twisted.ensureDeferred
async def test_nodes_join_tell_ask_and_leave(redis_server: RedisServer, node: Callable[..., Node]) -> None:
    one, two, three = (node(redis_server.url, name) for name in ("one", "two", "three"))
    await joined(one, two, three)
    await told(one, two, *(b"%d" % number for number in range(5000)))
    answers: list[dict[str, bytes]] = []
    two.fleet.ask(None, "part", b"?", lambda found: answers.append(dict(found)))
    await until(lambda: answers)
    assert answers == [{"one": b"one ?", "two": b"two ?", "three": b"three ?"}]
    await three.stop()
    await until(lambda: all({*each.part.calls} - {("fenced",)} for each in (one, two)))
    # On a busy machine a node may have been out of touch for a moment.
    heard = [call for call in [*one.part.calls, *two.part.calls] if call != ("fenced",)]
    assert sorted(heard) == [("left", "three"), ("left", "three", "heir")]
    assert redis_server.ask("HKEYS", "nexus:fleet:beats") in ([b"one", b"two"], [b"two", b"one"])
    await until(lambda: redis_server.ask("HLEN", "nexus:fleet:legacy") == 0)


@pytest_twisted.ensureDeferred
async def test_a_node_cut_off_alone_is_buried_and_comes_back(
    redis_server: RedisServer, gate: Gate, node: Callable[..., Node]
) -> None:
    """It fences itself; the others take over; when it is back it has another name, and mail works both ways."""
    one, two = node(redis_server.url, "one"), node(gate.url, "two")
    await joined(one, two)
    gate.silent = True
    await until(one.got(("left", "two", "heir")))
    await until(two.got(("fenced",)))
    gate.silent = False
    await until(two.got(("fenced",), ("left", "one"), ("renewed", "two.2"), ("joined", "one")))
    await until(one.got(("left", "two", "heir"), ("joined", "two.2")))
    await told(one, two, b"1")
    await told(two, one, b"2")
    assert (one.metrics.fleet_burials, two.metrics.fleet_fencings) == (1, 1)


@pytest_twisted.ensureDeferred
async def test_a_flushed_redis_gets_everything_again_and_nobody_leaves(
    redis_server: RedisServer, node: Callable[..., Node]
) -> None:
    one, two = (node(redis_server.url, name) for name in ("one", "two"))
    await joined(one, two)
    redis_server.ask("FLUSHALL")
    await until(lambda: one.part.calls and two.part.calls)
    await until(lambda: redis_server.ask("HLEN", "nexus:fleet:beats") == 2)
    await told(one, two, b"1")
    assert (one.part.calls, two.part.calls) == ([("renewed", "one")], [("renewed", "two")])


@pytest_twisted.ensureDeferred
async def test_a_redis_that_is_restarted_or_stands_still_buries_nobody(
    redis_server: RedisServer, node: Callable[..., Node]
) -> None:
    """Everybody is fenced meanwhile; what was told while it was away arrives."""
    one, two = (node(redis_server.url, name) for name in ("one", "two"))
    await joined(one, two)
    redis_server.kill()
    await until(lambda: one.fleet._membership.fenced and two.fleet._membership.fenced)
    for number in range(10):
        one.fleet.tell("two", "part", b"%d" % number)
    redis_server.start()
    await until(lambda: two.part.got)
    assert two.part.got == {"one": [b"%d" % number for number in range(10)]}
    await until(one.got(("fenced",), ("renewed", "one")))
    await until(two.got(("fenced",), ("renewed", "two")))

    for each in (one, two):
        each.part.calls.clear()
    redis_server.pause()
    await until(lambda: one.fleet._membership.fenced and two.fleet._membership.fenced)
    redis_server.resume()
    await until(lambda: not one.fleet._membership.fenced and not two.fleet._membership.fenced)
    await told(two, one, b"3")
    assert {*one.part.calls} == {*two.part.calls} == {("fenced",)}
    assert (set(one.fleet.members), set(two.fleet.members)) == ({"two"}, {"one"})


@pytest_twisted.ensureDeferred
async def test_a_redis_without_memory_still_takes_beats(redis_server: RedisServer, node: Callable[..., Node]) -> None:
    """A full Redis refuses events; it must not make the whole fleet stop."""
    one, two = (node(redis_server.url, name) for name in ("one", "two"))
    await joined(one, two)
    redis_server.ask("CONFIG", "SET", "maxmemory", "1")
    before = one.fleet._membership._own
    await until(lambda: one.fleet._membership._own > before + 10)
    await two.stop()
    await until(one.got(("left", "two", "heir")))
    assert one.metrics.fleet_fencings == 0


@pytest_twisted.ensureDeferred
async def test_a_fleet_that_ended_is_inherited_by_the_next_node(redis_server: RedisServer, node: Callable[..., Node]) -> None:
    """The last one that leaves has no heir yet; neither has one that is found in the roll without a sign of life."""
    one = node(redis_server.url, "one")
    await joined(one)
    await one.stop()
    redis_server.ask("HSET", "nexus:fleet:beats", "ghost", "17")
    two = node(redis_server.url, "two")
    await two.start()
    await until(two.got(("left", "one", "heir"), ("left", "ghost", "heir")))
