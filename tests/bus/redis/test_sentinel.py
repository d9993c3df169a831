"""Following the master that Redis Sentinel names."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from nexus_tw.bus.redis.address import parse
from nexus_tw.bus.redis.bus import RedisBus
from nexus_tw.bus.redis.connection import Unreachable
from nexus_tw.bus.redis.connector import Door
from nexus_tw.bus.redis.sentinel import Sentinels
from nexus_tw.model.metrics import Metrics
from tests.bus.gate import Gate
from tests.bus.recording import Recorder, published, reactor, subscribed, until
from tests.e2e.server import free_port
from tests.redis_server import RedisServer, SentinelServer, running


class Set(NamedTuple):
    master: RedisServer
    replica: RedisServer
    sentinel: SentinelServer

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/nexus/0"


@pytest.fixture
def redis_set() -> Iterator[Set]:
    servers: list[RedisServer] = [RedisServer(options=("--repl-diskless-sync-delay", "0"))]
    try:
        servers[0].start()
        servers.append(RedisServer(options=("--replicaof", "127.0.0.1", str(servers[0].port))))
        servers[1].start()
        sentinel = SentinelServer(servers[0].port)
        servers.append(sentinel)
        sentinel.start()
        # A failover needs a replica that the sentinel knows and that is in step.
        pytest_twisted.blockon(Deferred.fromCoroutine(until(lambda: _in_step(servers[1], sentinel))))
        yield Set(servers[0], servers[1], sentinel)
    finally:
        for server in servers:
            server.close()


def _in_step(replica: RedisServer, sentinel: SentinelServer) -> bool:
    # Fields and their values alternate in what a sentinel says of each replica.
    known = [dict(zip(row[::2], row[1::2], strict=True)) for row in sentinel.ask("SENTINEL", "replicas", "nexus")]
    return replica.ask("ROLE")[3] == b"connected" and any(row[b"master-link-status"] == b"ok" for row in known)


@pytest_twisted.ensureDeferred
async def test_after_a_failover_the_new_master_is_used(redis_set: Set) -> None:
    """The master freezes; the bus is away, then connected to the promoted replica, and never again to the old one."""
    heard = Recorder()
    bus = RedisBus(parse(redis_set.url), reactor, Metrics(), "one", chance=random.Random(1))
    await bus.start(heard)
    try:
        assert bus.available
        await subscribed(bus, "a")
        redis_set.master.pause()
        await until(lambda: heard.changes == ["lost", "restored"], 30)
        assert await published(bus, "a", b"1") is None
        await until(lambda: heard.events)
        assert redis_set.replica.ask("PUBSUB", "NUMSUB", "nexus:events:a") == [b"nexus:events:a", 1]
        assert redis_set.replica.ask("ROLE")[0] == b"master"
    finally:
        await bus.stop()


@pytest_twisted.ensureDeferred
async def test_a_deposed_master_that_still_serves_is_left(redis_set: Set) -> None:
    """The sentinels name another master while the old one goes on answering: the bus goes over."""
    gate = Gate(redis_set.sentinel.port)
    await gate.open()
    named = redis_set.master.port
    gate.answer = lambda command: b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(named)), named)
    other = RedisServer()
    other.start()
    heard = Recorder()
    bus = RedisBus(parse(f"redis+sentinel://127.0.0.1:{gate.port}/nexus"), reactor, Metrics(), "one", chance=random.Random(1))
    await bus.start(heard)
    try:
        assert bus.available
        named = other.port
        await until(lambda: heard.changes == ["lost", "restored"])
        assert other.ask("PUBSUB", "NUMSUB", "nexus:nodes") == [b"nexus:nodes", 1]
    finally:
        await bus.stop()
        other.close()
        await gate.close()


@pytest_twisted.ensureDeferred
async def test_a_replica_that_is_named_master_is_not_used(redis_set: Set) -> None:
    """What says of itself that it is a replica is no master, whatever a sentinel may say."""
    gate = Gate(redis_set.sentinel.port)
    await gate.open()
    port = redis_set.replica.port
    gate.answer = lambda command: b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(port)), port)
    heard = Recorder()
    bus = RedisBus(parse(f"redis+sentinel://127.0.0.1:{gate.port}/nexus"), reactor, Metrics(), "one")
    await bus.start(heard)
    try:
        assert not bus.available
        port = redis_set.master.port
        await until(lambda: bus.available)
    finally:
        await bus.stop()
        await gate.close()


async def _master(url: str) -> tuple[str, int]:
    address = parse(url)
    return await Sentinels(Door(reactor, address), address).master()


@pytest_twisted.ensureDeferred
async def test_most_sentinels_decide_and_a_dead_one_costs_nothing(redis_set: Set) -> None:
    """One that is alone in what it says is outvoted, and one that nobody reaches is not waited for."""
    gates = [Gate(redis_set.sentinel.port) for _ in range(4)]
    for gate in gates:
        await gate.open()
    gates[0].answer = lambda command: b"*2\r\n$9\r\n127.0.0.9\r\n$1\r\n9\r\n"
    gates[1].silent = True
    began = time.monotonic()
    places = ",".join(f"127.0.0.1:{port}" for port in (*(gate.port for gate in gates), redis_set.sentinel.port))
    assert await _master(f"redis+sentinel://{places}/nexus") == ("127.0.0.1", redis_set.master.port)
    assert time.monotonic() - began < 0.9
    for gate in gates:
        await gate.close()


@pytest_twisted.ensureDeferred
async def test_sentinels_without_an_answer_are_unreachable(redis_set: Set) -> None:
    """An unknown name, and nobody there, are told apart from each other in words, and are never an address."""
    with pytest.raises(Unreachable, match="does not know this name"):
        await _master(f"redis+sentinel://127.0.0.1:{redis_set.sentinel.port}/another")
    with pytest.raises(Unreachable, match="refused"):
        await _master(f"redis+sentinel://127.0.0.1:{free_port()}/nexus")


@pytest_twisted.ensureDeferred
async def test_a_sentinel_with_a_password_gets_the_one_of_the_address() -> None:
    """It is sent where a sentinel asks for it, and not to one that has none."""
    for server in running(password="secret"):
        gate = Gate(server.port)
        await gate.open()

        # A plain server stands in: it checks the password, and the gate answers the question.
        def answer(command: list[bytes], gate: Gate = gate) -> bytes | None:
            if command[0] != b"SENTINEL":
                return None
            known = [b"AUTH", b"secret"] in gate.commands
            return b"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n1234\r\n" if known else b"-NOAUTH Authentication required.\r\n"

        gate.answer = answer
        assert await _master(f"redis+sentinel://:secret@127.0.0.1:{gate.port}/nexus") == ("127.0.0.1", 1234)
        assert [command[0] for command in gate.commands] == [b"SENTINEL", b"AUTH", b"SENTINEL"]
        await gate.close()


MASTER_PASSWORD, SENTINEL_PASSWORD = "the+master/s=1", "the+sentinel/s=2"


@pytest.mark.parametrize(
    ("login", "options"),
    [
        (f"sentinel_password={SENTINEL_PASSWORD}", ()),
        (f"sentinel_password={quote(SENTINEL_PASSWORD, safe='')}", ()),
        (f"sentinel_username=nexus&sentinel_password={SENTINEL_PASSWORD}", (f"user nexus on >{SENTINEL_PASSWORD} &* +@all",)),
    ],
    ids=["password", "encoded", "user"],
)
@pytest_twisted.ensureDeferred
async def test_a_different_password_for_sentinel_is_a_setting_of_the_url(login: str, options: tuple[str, ...]) -> None:
    """The master has one, the sentinel another; each gets its own, and the wrong one opens nothing."""
    password = "default" if options else SENTINEL_PASSWORD
    for master in running(password=MASTER_PASSWORD):
        watch = f'sentinel auth-pass nexus "{MASTER_PASSWORD}"'
        sentinel = SentinelServer(master.port, password=password, options=(watch, *options))
        try:
            sentinel.start()
            url = f"redis+sentinel://:{quote(MASTER_PASSWORD, safe='')}@127.0.0.1:{sentinel.port}/nexus/0"
            bus = RedisBus(parse(f"{url}?{login}"), reactor, Metrics(), "one", chance=random.Random(1))
            await bus.start(Recorder())
            try:
                assert bus.available
                assert await published(bus, "a", b"1") is None
            finally:
                await bus.stop()
            for wrong in (url, f"{url}?sentinel_password=wrong"):
                address = parse(wrong)
                with pytest.raises(Unreachable, match=r"WRONGPASS|NOAUTH") as caught:
                    await Sentinels(Door(reactor, address), address).master()
                assert "wrong" not in str(caught.value) and MASTER_PASSWORD not in str(caught.value)
        finally:
            sentinel.close()
