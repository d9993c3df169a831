"""Redis loses its end, or nothing: failover, restarts with every kind of persistence. Silence is never the answer."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable

import pytest
import pytest_twisted

from nexus_tw.model.errors import NexusError
from nexus_tw.model.positions import Position
from tests.bus.recording import placed, subscribed, until
from tests.bus.redis.keeping import Keeper, texts
from tests.redis_server import RedisServer, SentinelServer


class Hasty(random.Random):
    """A chance by which no attempt waits after the one before."""

    def uniform(self, a: float, b: float) -> float:
        return a


def numbers(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last + 1)]


@pytest_twisted.ensureDeferred
async def test_a_failover_that_loses_the_tail_recovers_up_to_the_fork_and_no_further(
    server: Callable[..., RedisServer], keeper: Callable[..., Keeper]
) -> None:
    """Events 96 to 100 are lost with the master. A client that has seen 100 is told so; one that had 93
    gets exactly the rest, later too."""
    master = server("--repl-diskless-sync-delay", "0")
    replica = server("--replicaof", f"127.0.0.1 {master.port}")
    await until(lambda: replica.ask("ROLE")[3] == b"connected")
    one = keeper(master.url)
    await one.start()
    seen = await one.publish("a", *numbers(1, 95))
    still = await one.publish("idle", b"1")
    begun = (await one.tops("empty"))["empty"]
    await until(lambda: replica.ask("GET", "nexus:timeline") == master.ask("GET", "nexus:timeline"))
    await until(lambda: replica.ask("HGET", "nexus:type:{empty}", "b") == begun.epoch.partition(".")[2].encode())
    os.kill(replica.pid, signal.SIGSTOP)
    master.ask("CLIENT", "KILL", "TYPE", "replica")
    ahead = await one.publish("a", *numbers(96, 100))
    master.kill()
    await until(lambda: one.heard.changes == ["lost"])
    replica.resume()
    replica.ask("REPLICAOF", "NO", "ONE")
    two = keeper(replica.url, "two")
    await two.start()
    for event in (False, True):
        if event:
            new = await two.publish("a", *(b"new %d" % number for number in range(96, 110)))
            assert new.offset == 109
            assert new.epoch != seen.epoch
        rest = [b"new %d" % number for number in range(96, 110)] if event else []
        assert texts(await two.read("a", ahead)) is None
        assert texts(await two.read("a", ahead._replace(offset=96))) is None
        assert texts(await two.read("a", seen)) == rest
        assert texts(await two.read("a", seen._replace(offset=93))) == [*numbers(94, 95), *rest]
        assert not (await two.page("a", ahead, 5)).recovered
        assert texts(await two.read("idle", still)) == []
    assert texts(await two.read("a", new)) == []
    assert texts(await two.read("empty", begun)) == []
    await two.publish("empty", b"1")
    assert texts(await two.read("empty", begun)) == [b"1"]
    # A type of which nobody knows whether it lost something is not recovered for those who have never seen it.
    assert texts(await two.read("a", Position(still.epoch, 0))) is None


PERSISTENCE = {
    "none": ("--save", ""),
    "old copy": ("--save", ""),
    "log": ("--appendonly", "yes", "--appendfsync", "always"),
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", PERSISTENCE)
async def test_a_restart_recovers_what_redis_still_has(
    server: Callable[..., RedisServer], keeper: Callable[..., Keeper], kind: str
) -> None:
    """Killed five times. With an append-only file there is no false alarm, also not for idle types; with a copy of a while
    ago what came later is told to be lost; without anything all of it is."""
    redis = server(*PERSISTENCE[kind])
    one = keeper(redis.url)
    await one.start()
    await subscribed(one.bus, "a", "idle")
    idle = await one.publish("idle", b"1")
    empty = (await one.tops("empty"))["empty"]
    top = 0
    for number in range(1, 6):
        early = await one.publish("a", *(b"%d" % number for _ in range(10)))
        if kind == "old copy":
            redis.ask("SAVE")
        late = await one.publish("a", *(b"%d" % number for _ in range(10)))
        redis.kill()
        await until(lambda number=number: len(one.heard.changes) == 2 * number - 1)  # type: ignore[misc]
        error = await placed(one.bus, "a", b"never")
        assert isinstance(error, NexusError)
        redis.start()
        await until(lambda: one.bus.available)
        kept = {"none": 0, "old copy": 10, "log": 20}[kind]
        top = top + kept if kind != "none" else 0
        assert (texts(await one.read("a", early)) is not None) == (kind != "none")
        assert (texts(await one.read("a", late)) is not None) == (kind == "log")
        assert (await one.tops("a"))["a"].offset == top
        assert (texts(await one.read("idle", idle)) == []) == (kind != "none")
        assert (texts(await one.read("empty", empty)) == []) == (kind != "none")
    after = await one.publish("a", b"after")
    assert after.offset == top + 1
    assert (texts(await one.read("a", late)) == [b"after"]) == (kind == "log")
    assert (texts(await one.read("a", early)) is not None) == (kind != "none")


@pytest_twisted.ensureDeferred
async def test_many_timelines_of_one_type_are_remembered_and_the_oldest_forgotten_first(
    server: Callable[..., RedisServer], keeper: Callable[..., Keeper]
) -> None:
    """What is kept of them is bounded; a position of a timeline that is forgotten is not recovered."""
    redis = server()
    one = keeper(redis.url, chance=Hasty())
    await one.start()
    positions = []
    for number in range(1, 61):
        positions.append(await one.publish("a", b"1"))
        redis.ask("SET", "nexus:run", "another")
        redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda number=number: one.heard.changes == ["lost", "restored"] * number)  # type: ignore[misc]
    top = await one.publish("a", b"last")
    assert top.offset == 61
    assert len({position.epoch for position in positions}) == 60
    assert len(redis.ask("HGET", "nexus:type:{a}", "p")) <= 512
    recovered = [texts(await one.read("a", position)) is not None for position in positions]
    assert recovered == sorted(recovered)
    assert 20 < sum(recovered) < 60


@pytest_twisted.ensureDeferred
async def test_a_second_link_to_the_same_process_opens_the_same_timeline(
    server: Callable[..., RedisServer], keeper: Callable[..., Keeper]
) -> None:
    """Nodes come and go without a new epoch; each realm has a history of its own."""
    redis = server()
    one, two, other = keeper(redis.url), keeper(redis.url, "two"), keeper(redis.url, realm="other")
    for node in (one, two, other):
        await node.start()
    first = await one.publish("a", b"1")
    assert (await two.publish("a", b"2")) == first._replace(offset=2)
    redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
    for node in (one, two, other):
        await until(lambda node=node: node.heard.changes == ["lost", "restored"])  # type: ignore[misc]
    assert (await one.publish("a", b"3")) == first._replace(offset=3)
    assert (await other.publish("a", b"x")).offset == 1
    assert texts(await other.read("a", first)) is None
    assert set(await other.known("**")) == {"a"}


@pytest_twisted.ensureDeferred
async def test_sentinel_promotes_a_replica_and_the_bus_goes_on_counting(
    server: Callable[..., RedisServer], keeper: Callable[..., Keeper]
) -> None:
    """The nodes follow by themselves; nothing that was replicated is lost, and no position names two events."""
    master = server("--repl-diskless-sync-delay", "0")
    replica = server("--replicaof", f"127.0.0.1 {master.port}")
    sentinel = SentinelServer(master.port)
    sentinel.start()
    try:
        await until(lambda: b"ok" in [part for row in sentinel.ask("SENTINEL", "replicas", "nexus") for part in row])
        nodes = [keeper(f"redis+sentinel://127.0.0.1:{sentinel.port}/nexus/0", name) for name in ("one", "two")]
        for node in nodes:
            await node.start()
            await subscribed(node.bus, "a")
        before = await nodes[0].publish("a", *numbers(1, 20))
        await until(lambda: replica.ask("HGET", "nexus:type:{a}", "s") == b"20")
        master.pause()
        for node in nodes:
            await until(lambda node=node: node.heard.changes == ["lost", "restored"], 40)  # type: ignore[misc]
        after = await nodes[1].publish("a", b"21")
        assert after.offset == 21
        assert after.epoch != before.epoch
        for node in nodes:
            assert texts(await node.read("a", before._replace(offset=18))) == numbers(19, 21)
        await until(lambda: len(nodes[0].heard.events) == 21)
        assert nodes[0].heard.positions == nodes[1].heard.positions
    finally:
        sentinel.close()
