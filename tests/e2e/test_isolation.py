"""No client can disturb another. Each test has a watcher that must receive every event in order."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from nexus_client.twisted import Nexus
from twisted.internet.endpoints import TCP4ClientEndpoint

from nexus_tw.model.settings import Limits
from tests.client import Client, Ended, Wire, dial, frame, greeted, handshake
from tests.e2e.clients import Clients, Events, listen
from tests.e2e.server import NexusServer, clock, until

TYPE = "build.done"
FILLING = "x" * 60000
# More than the queue of a connection (1 MiB) and what the kernel holds for both ends of it (some 10 MB at the most).
FLOOD = 400
HALVES = 200
ABRUPT = 50


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NexusServer]:
    server = NexusServer(tmp_path_factory.mktemp("isolation"))
    server.launch()
    yield server
    server.discard()


class Others:
    """A watcher and a publisher."""

    def __init__(self, watcher: Nexus, events: Events, publisher: Nexus) -> None:
        self._watcher = watcher
        self._events = events
        self._publisher = publisher
        self._number = 0

    async def work(self, times: int = 20, filling: str = "") -> None:
        """Publishes and hears, each event within the 10 s that a client of these tests waits."""
        for _ in range(times):
            self._number += 1
            data = {"number": self._number, "filling": filling}
            await self._publisher.publish(TYPE, data)
            assert (await self._events.next()).data == data

    def kept(self) -> None:
        """They are connected by their first connection, and heard nothing twice."""
        for client in (self._watcher, self._publisher):
            assert (client.state, client.stats.attempts, client.stats.duplicates) == ("connected", 1, 0)


@pytest_twisted.async_yield_fixture
async def others(server: NexusServer, clients: Clients) -> Any:
    await server.ready()
    watcher, publisher = await clients.connect(server), await clients.connect(server)
    both = Others(watcher, await listen(watcher, TYPE), publisher)
    await both.work(1)
    yield both
    await both.work(1)
    both.kept()


async def raw(server: NexusServer) -> Wire:
    return await dial(TCP4ClientEndpoint(clock, "127.0.0.1", server.port))


async def client(server: NexusServer) -> Client:
    """One that can misbehave."""
    wire = await raw(server)
    wire.write(handshake(token=server.token))
    return await greeted(wire)


@pytest_twisted.ensureDeferred
async def test_one_who_stops_reading_delays_nobody_and_is_closed(server: NexusServer, others: Others) -> None:
    slow = await client(server)
    slow.wire.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await slow.subscribe(TYPE)
    slow.wire.transport.pauseProducing()
    await others.work(FLOOD, FILLING)
    slow.wire.transport.resumeProducing()
    # It may be so late that not even the farewell reaches it.
    code, reason = await slow.closed()
    assert (code, reason) in [(4001, "Slow consumer"), (1006, "")]
    assert len(slow.left) < FLOOD
    # The server writes its line when the connection is gone on its side too.
    await until(lambda: "4001 Slow consumer" in server.output)


@pytest_twisted.ensureDeferred
async def test_nonsense_is_answered_to_whoever_sent_it_and_in_the_end_closes_only_that_one(
    server: NexusServer, others: Others
) -> None:
    noisy = await client(server)
    await noisy.subscribe("noise")
    nonsense = ["{", "[]", "null", '{"type": 1}', '{"type": "dance"}', "[" * 30000, '{"type": "subscribe", "events": "all"}']
    for text in nonsense:
        noisy.send_text(text)
        assert (await noisy.receive())["type"] == "error"
    await others.work()
    for _ in range(100 - len(nonsense)):
        noisy.send_text("{")
        assert (await noisy.receive())["type"] == "error"
    await others.work()
    noisy.send_text("{")
    assert await noisy.closed() == (4004, "Too many errors")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(0x3), 1002),
        (frame(0x1, b"{}", mask=None), 1002),
        (frame(0x1, b"\xff\xff"), 1007),
        (frame(0x1, b"x" * (Limits().message + 1)), 1009),
        (frame(0x2, b"{}"), 1003),
    ],
    ids=["unknown opcode", "unmasked", "not UTF-8", "too long", "binary"],
)
async def test_what_breaks_the_rules_of_websocket_closes_that_connection_alone(
    server: NexusServer, others: Others, data: bytes, code: int
) -> None:
    breaker = await client(server)
    breaker.write(data)
    assert (await breaker.closed())[0] == code
    await others.work()


@pytest_twisted.ensureDeferred
async def test_half_a_handshake_holds_up_nobody_and_is_given_up(server: NexusServer, others: Others) -> None:
    halves = [await raw(server) for _ in range(HALVES)]
    for wire in halves:
        wire.write(handshake(token=server.token)[:-10])
    await others.work()
    await until(lambda: all(wire.over for wire in halves), 15, "for half handshakes to be given up")


@pytest_twisted.ensureDeferred
async def test_clients_that_vanish_while_they_subscribe_publish_and_call_leave_nothing_behind(
    server: NexusServer, others: Others
) -> None:
    for _ in range(ABRUPT):
        vanishing = await client(server)
        vanishing.send(type="subscribe", events=[TYPE, "**"])
        vanishing.send(type="register", agentId="agent-001", commands=["deploy"])
        vanishing.send(type="command", command="deploy")
        vanishing.send(type="telemetry", agentId="agent-001", metrics={"cpu": 1})
        vanishing.drop()
    await others.work()
    # Whoever comes after them finds the agent's id free and the command without an executor.
    heir = await client(server)
    await until_gone(heir)
    assert (await heir.ask(type="register", agentId="agent-001", commands=["deploy"]))["type"] == "registered"
    heir.leave()
    with pytest.raises(Ended):
        await heir.message()


async def until_gone(asking: Client) -> None:
    """Wait until the server has noticed that the last of the vanished clients is gone."""
    for _ in range(100):
        reply = await asking.ask(type="command", command="deploy")
        if reply.get("code") == "no_such_command":
            return
    raise AssertionError("somebody who has gone still gets commands")


@pytest_twisted.ensureDeferred
async def test_unsubscribing_is_for_oneself(server: NexusServer, others: Others) -> None:
    fickle = await client(server)
    await fickle.subscribe(TYPE)
    assert (await fickle.ask(type="unsubscribe", events=[TYPE]))["type"] == "unsubscribed"
    await others.work()
    assert await fickle.heard() == []
    fickle.drop()
