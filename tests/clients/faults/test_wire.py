"""The faulty network: each fault is one, and a client that misbehaves would be found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.protocol import Factory, Protocol

from tests.client import Wire as Line
from tests.client import clock
from tests.clients.faults.wire import Wire, response
from tests.e2e.server import until


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


@pytest_twisted.async_yield_fixture
async def wire() -> AsyncIterator[Wire]:
    """A network before a server that sends back what it gets."""
    factory = Factory.forProtocol(Echo)
    factory.noisy = False
    listening: Any = clock.listenTCP(0, factory, interface="127.0.0.1")
    made = Wire(listening.getHost().port)
    yield made
    made.discard()
    await listening.stopListening()


async def line(wire: Wire) -> Line:
    made: Line = await connectProtocol(TCP4ClientEndpoint(clock, "127.0.0.1", wire.port), Line())
    return made


async def answers(one: Line, text: bytes) -> None:
    one.write(text)
    await one.until(text)


@pytest_twisted.ensureDeferred
async def test_it_relays_and_counts(wire: Wire) -> None:
    for _ in range(3):
        one = await line(wire)
        await answers(one, b"hello")
        assert wire.open == wire.served == 1
        one.transport.loseConnection()
        await until(lambda: not wire.open)
    assert len(wire.arrivals) == 3
    assert wire.most == 1


@pytest_twisted.ensureDeferred
async def test_two_sockets_at_once_are_noticed_also_if_one_of_them_is_not_read(wire: Wire) -> None:
    await answers(await line(wire), b"one")
    wire.freeze()
    second = await line(wire)
    await until(lambda: len(wire.arrivals) == 2)
    assert wire.most == 2
    second.drop()


@pytest_twisted.ensureDeferred
async def test_a_socket_that_was_closed_is_none_although_nobody_has_read_its_end(wire: Wire) -> None:
    first = await line(wire)
    await answers(first, b"one")
    wire.freeze()
    first.transport.loseConnection()
    await until(lambda: first.over)
    await line(wire)
    await until(lambda: len(wire.arrivals) == 2)
    assert wire.most == 1


@pytest_twisted.ensureDeferred
async def test_ends_are_resets_or_not(wire: Wire) -> None:
    for end, reset in ((wire.reset, True), (wire.finish, False)):
        one = await line(wire)
        await answers(one, b"hello")
        end()
        await until(lambda one=one: one.over)
        assert one.reset == reset


@pytest_twisted.ensureDeferred
async def test_what_is_frozen_arrives_later(wire: Wire) -> None:
    one, other = await line(wire), await line(wire)
    await answers(one, b"one")
    await answers(other, b"one")
    wire.freeze(to_server=False)
    one.write(b"two")
    wire.thaw()
    await one.until(b"two")
    wire.freeze(to_client=False)
    other.write(b"two")
    wire.inject(b"three")
    await other.until(b"three")
    assert b"two" not in other.data
    wire.thaw()
    await other.until(b"two")


@pytest_twisted.ensureDeferred
async def test_a_slow_wire_keeps_the_order(wire: Wire) -> None:
    one = await line(wire)
    wire.slow(rate=200_000, latency=0.05)
    text = b"".join(b"%05d" % number for number in range(5000))
    began = clock.seconds()
    one.write(text)
    await until(lambda: len(one.data) == len(text))
    assert one.data == text
    assert clock.seconds() - began >= 0.1 + len(text) / 200_000


@pytest_twisted.ensureDeferred
async def test_an_answer_in_place_of_the_server(wire: Wire) -> None:
    wire.answer = response(503, "Service Unavailable", "busy", Retry_After=2)
    one = await line(wire)
    one.write(b"GET / HTTP/1.1\r\n\r\n")
    await until(lambda: one.over)
    assert one.data.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nRetry-After: 2\r\n" in one.data
    assert one.data.endswith(b"\r\n\r\nbusy")
    wire.answer = None
    await answers(await line(wire), b"hello")


@pytest_twisted.ensureDeferred
async def test_refused_connections(wire: Wire) -> None:
    one = await line(wire)
    await answers(one, b"hello")
    await wire.refuse()
    await until(lambda: one.over)
    try:
        await line(wire)
    except Refused:
        pass
    else:
        raise AssertionError("it was accepted")
    wire.listen()
    await answers(await line(wire), b"hello")
