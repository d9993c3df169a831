"""Redis is there, but does not work: each way in which clients of it have been seen to stop for good."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import hiredis
import pytest
import pytest_twisted

from tests.bus.gate import Gate, pass_on
from tests.e2e.server import until
from tests.redis_server import RedisServer
from tests.reliability.fleet import PATIENCE, Fleet, Make, times
from tests.reliability.fleet import fleet as fleet

PASSWORD = "secret"
LATENCY = 5.0  # s
OUTPUT = "20000"  # bytes that a subscriber may be behind


class Scene(NamedTuple):
    redis: RedisServer
    gate: Gate
    fleet: Fleet
    ask: Callable[..., Any]  # over a connection that stands all the time

    def cut(self) -> None:
        """Ends all connections of the nodes to Redis."""
        self.ask("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")
        self.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def dropped_at_auth(scene: Scene) -> None:
    scene.gate.answer = lambda command: "drop" if command[0].upper() == b"AUTH" else None
    scene.cut()
    await scene.fleet.lost()
    scene.gate.answer = pass_on


async def loading(scene: Scene) -> None:
    scene.gate.answer = lambda command: b"-LOADING Redis is loading the dataset in memory\r\n"
    scene.cut()
    await scene.fleet.lost()
    scene.gate.answer = pass_on


async def too_many_clients(scene: Scene) -> None:
    scene.ask("CONFIG", "SET", "maxclients", "1")
    scene.cut()
    await scene.fleet.lost()
    scene.ask("CONFIG", "SET", "maxclients", "10000")


async def black_hole(scene: Scene) -> None:
    scene.gate.silent = True
    await scene.fleet.lost()
    scene.gate.silent = False


async def late(scene: Scene) -> None:
    scene.gate.delay = LATENCY
    await scene.fleet.lost()
    scene.gate.delay = 0.0


async def clients_killed(scene: Scene) -> None:
    for kind in ("pubsub", "normal") * times(10, 2):
        scene.ask("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        await scene.fleet.under_load(10)


async def flushed_when_idle(scene: Scene) -> None:
    """Nobody publishes anything, and everybody is told."""
    await scene.fleet.quiet()
    watchers = [one.watcher for one in (*scene.fleet.watchers, *scene.fleet.visitors)]
    before = {watcher.name: watcher.gaps for watcher in watchers}
    began = time.monotonic()
    scene.ask("FLUSHALL")

    def told() -> bool:
        return all(watcher.gaps >= before[watcher.name] + len(watcher.types) for watcher in watchers)

    await until(told, PATIENCE, "for the gaps")
    scene.fleet.ready_after.append(time.monotonic() - began)
    scene.fleet.load()


async def out_of_memory(scene: Scene) -> None:
    """Publications are refused, none half done, and the nodes stay: they do all else."""
    refused = scene.fleet.book.refused
    scene.ask("CONFIG", "SET", "maxmemory", "1")
    await until(lambda: scene.fleet.book.refused > refused + 20, PATIENCE, "for refusals")
    scene.ask("CONFIG", "SET", "maxmemory", "0")


async def output_buffer(scene: Scene) -> None:
    for _ in range(times(10, 2)):
        cut = [node.output.count("is away") for node in scene.fleet.nodes]
        scene.ask("CONFIG", "SET", "client-output-buffer-limit", f"pubsub {OUTPUT} 0 0")
        scene.ask("PUBLISH", "nexus:nodes", "x" * 10 * int(OUTPUT))
        await until(
            lambda cut=cut: all(
                node.output.count("is away") > before for node, before in zip(scene.fleet.nodes, cut, strict=True)
            ),
            PATIENCE,
            "for the links to end",
        )
        scene.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 33554432 8388608 60")
        await scene.fleet.ready()


WAYS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "drop-at-AUTH": dropped_at_auth,
    "LOADING": loading,
    "maxclients": too_many_clients,
    "black-hole": black_hole,
    "5-s-latency": late,
    "CLIENT-KILL": clients_killed,
    "FLUSHALL-when-idle": flushed_when_idle,
    "out-of-memory": out_of_memory,
    "output-buffer": output_buffer,
}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer(password=PASSWORD)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("way", list(WAYS))
async def test_nobody_stops_for_good(redis: RedisServer, fleet: Make, way: str) -> None:
    gate = Gate(redis.port)
    await gate.open()
    with closing(redis._connect()) as control:

        def ask(*words: str) -> Any:
            # The reactor runs on between the calls, not within one; Redis answers this connection at once.
            reader = hiredis.Reader()
            control.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in words))
            while (answer := reader.gets()) is False:
                reader.feed(control.recv(65536))
            assert not isinstance(answer, Exception), answer
            return answer

        ask("AUTH", PASSWORD)
        one = fleet(f"redis://:{PASSWORD}@127.0.0.1:{gate.port}/0")
        await one.start()
        one.load()
        for _ in range(times(3, 1)):
            await one.under_load(30)
            await WAYS[way](Scene(redis, gate, one, ask))
            await one.ready()
            await one.visit()
        await one.under_load(30)
        await one.check()
    await gate.close()
