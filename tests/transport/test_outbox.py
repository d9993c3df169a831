from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure

from nexus_tw.interfaces.sessions import Link
from nexus_tw.model.errors import SLOW_CONSUMER, Close
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Limits
from nexus_tw.runtime.turn import Turn
from nexus_tw.transport.backlog import HARD, Backlog
from nexus_tw.transport.outbox import Outbox
from tests.recording import principal

reactor: Any = _reactor
PATIENCE = 10.0


async def until(true: Callable[[], object]) -> None:
    end = reactor.seconds() + PATIENCE
    while not true():
        assert reactor.seconds() < end, "waited in vain"
        await deferLater(reactor, 0.002)


# --- on a transport of memory: what leaves when


class Transport(StringTransport):
    """The attributes of Twisted's transports that the outbox uses; nothing is ever queued in it."""

    dataBuffer = b""
    offset = 0
    _tempDataLen = 0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)


def at_once(clock: Any, limit: int) -> Backlog:
    """A backlog that gives no grace to who is past this limit; grace is the matter of `test_backlog.py`."""
    return Backlog(clock, Limits(send_queue=max(1, limit // HARD), send_queues=0))


class World:
    def __init__(self, limit: int = 100) -> None:
        self.clock = Clock()
        self.transport = Transport()
        self.closed: list[Close] = []
        self.finished: list[Close] = []
        self.principals: list[Principal] = []
        self.backlog = at_once(self.clock, limit)
        self.charged: list[int] = []
        self.outbox = Outbox(self.transport, Turn(self.clock), self.backlog, limit, self)

    account = "somebody"

    def overrun(self) -> None:
        raise AssertionError("there is room")

    def identified(self, principal: Principal) -> None:
        self.principals.append(principal)

    def note(self, text: str) -> None:
        raise AssertionError(text)

    def count(self, messages: int) -> None:
        raise AssertionError("no message stands for others")

    def charge(self, size: int) -> None:
        self.charged.append(size)

    def probe(self, done: Callable[[], None]) -> None:
        raise AssertionError("nobody asks")

    def finish(self, close: Close) -> None:
        self.finished.append(close)

    def close(self, close: Close) -> None:
        self.closed.append(close)
        self.outbox.shut()


@pytest.fixture
def world() -> World:
    return World()


def test_what_is_written_leaves_together_at_the_end_of_the_turn(world: World) -> None:
    for data in (b"a", b"b", b"c"):
        world.outbox.write(data)
    assert not world.transport.writes
    assert world.outbox.waiting() == 3
    world.clock.advance(0)
    assert world.transport.writes == [b"abc"]
    assert world.outbox.waiting() == 0
    world.outbox.write(b"d")
    world.clock.advance(0)
    assert world.transport.writes == [b"abc", b"d"]


def test_what_is_pushed_leaves_now_unless_something_was_written_before(world: World) -> None:
    world.outbox.push(b"a")
    assert world.transport.writes == [b"a"]
    world.outbox.write(b"b")
    world.outbox.push(b"c")
    world.outbox.write(b"d")
    assert world.transport.writes == [b"a"]
    world.clock.advance(0)
    assert world.transport.writes == [b"a", b"bcd"]


def test_a_flush_in_mid_turn_leaves_nothing_for_its_end(world: World) -> None:
    world.outbox.write(b"a")
    world.outbox.flush()
    assert world.transport.writes == [b"a"]
    world.outbox.push(b"b")
    world.clock.advance(0)
    world.outbox.flush()
    assert world.transport.writes == [b"a", b"b"]


def test_the_one_piece_there_is_is_not_copied(world: World) -> None:
    data = b"shared by many"
    world.outbox.push(data)
    world.outbox.write(data)
    world.outbox.flush()
    assert all(written is data for written in world.transport.writes)


def test_frames_are_packed_one_by_one_before_they_wait(world: World) -> None:
    outbox = Outbox(world.transport, Turn(world.clock), world.backlog, 100, world, lambda data: b"<" + data + b">")
    outbox.push(b"a")
    outbox.write(b"b")
    outbox.push(b"c")
    assert outbox.waiting() == 6, "what waits is what will be sent"
    outbox.shut()
    outbox.push(b"d")
    outbox.flush()
    assert world.transport.writes == [b"<a>", b"<b><c>"]


def test_nothing_is_taken_after_it_is_shut_and_what_was_queued_is_still_sent(world: World) -> None:
    world.outbox.write(b"before")
    world.outbox.shut()
    world.outbox.write(b"after")
    world.outbox.push(b"after")
    world.clock.advance(0)
    world.outbox.push(b"after")
    assert world.transport.writes == [b"before"]


def test_closing_is_left_to_the_connection(world: World) -> None:
    world.outbox.close(SLOW_CONSUMER)
    assert world.closed == [SLOW_CONSUMER]


def test_a_client_that_lets_too_much_wait_is_closed_once(world: World) -> None:
    world.transport.dataBuffer = b"x" * 150
    world.transport.offset = 50
    world.outbox.check()
    assert not world.closed, "just what is allowed"
    world.transport._tempDataLen = 1
    world.outbox.check()
    world.outbox.check()
    world.outbox.push(b"more")
    assert world.closed == [SLOW_CONSUMER]


def test_what_is_queued_in_the_turn_counts_as_waiting_before_the_turn_is_over(world: World) -> None:
    for _ in range(1000):
        world.outbox.write(b"x" * 10)
    assert world.closed == [SLOW_CONSUMER] and world.outbox.waiting() == 110


def test_what_is_told_again_is_charged_and_refused_once_too_much_waits(world: World) -> None:
    assert world.outbox.affords(1000), "there is room for anything if nothing waits"
    world.outbox.write(b"x" * 60)
    assert world.outbox.affords(40) and not world.outbox.affords(41)
    assert world.charged == [1000, 40]
    world.clock.advance(0)
    assert world.outbox.affords(41)


def test_a_connection_that_says_farewell_when_it_is_closed_for_being_slow_is_closed_once(world: World) -> None:
    def farewell(close: Close) -> None:
        world.closed.append(close)
        if len(world.closed) == 1:  # as the life of a connection sees to it
            world.outbox.write(b"farewell")
            world.outbox.flush()
            world.outbox.shut()

    world.close = farewell  # type: ignore[method-assign]
    world.transport._tempDataLen = 101
    world.outbox.write(b"a")
    world.clock.advance(0)
    assert world.transport.writes == [b"a", b"farewell"]


def test_under_tls_what_waits_below_it_counts(world: World) -> None:
    wrapper = ProtocolWrapper(WrappingFactory(Factory()), Protocol())
    wrapper.makeConnection(world.transport)
    outbox = Outbox(wrapper, Turn(world.clock), world.backlog, 100, world)
    world.transport._tempDataLen = 7
    assert outbox.waiting() == 7
    outbox.push(b"a")
    assert world.transport.writes == [b"a"]


def test_it_is_the_link_that_sessions_know(world: World) -> None:
    link: Link = world.outbox
    assert link is world.outbox and link.largest == 0
    who = principal()
    link.identified(who)
    assert world.principals == [who]
    link.finish(SLOW_CONSUMER)
    assert (world.finished, world.closed) == ([SLOW_CONSUMER], [])


# --- on real sockets, where the kernel takes as much as it likes


class Served(Protocol):
    """Our side of a connection."""

    transport: Any
    lost = False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True


class Pair:
    """Our transport, made by the reactor from one end of a pair of sockets, and the client's end in the test's hands."""

    def __init__(self, limit: int) -> None:
        ours, self.client = socket.socketpair()
        self.client.setblocking(False)
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.served = Served()
        factory = Factory.forProtocol(lambda: self.served)
        reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)
        ours.close()
        self.turn = Turn(reactor)
        self.closed: list[Close] = []
        self.outbox = Outbox(self.served.transport, self.turn, at_once(reactor, limit), limit, self)
        self.received = bytearray()

    account = "somebody"

    def overrun(self) -> None:
        raise AssertionError("there is room")

    def identified(self, principal: Principal) -> None:
        raise AssertionError("nobody says so")

    def note(self, text: str) -> None:
        raise AssertionError(text)

    def count(self, messages: int) -> None:
        raise AssertionError("no message stands for others")

    def charge(self, size: int) -> None:
        raise AssertionError("nothing is told again")

    def probe(self, done: Callable[[], None]) -> None:
        raise AssertionError("nobody asks")

    def finish(self, close: Close) -> None:
        raise AssertionError("nobody leaves")

    def close(self, close: Close) -> None:
        self.closed.append(close)
        self.outbox.shut()

    def read(self, most: int = 1 << 20) -> bytes:
        """Return the bytes received by the client so far."""
        try:
            data = self.client.recv(most)
        except BlockingIOError:
            return b""
        self.received += data
        return data

    async def read_until(self, size: int) -> bytes:
        await until(lambda: self.read() is None or len(self.received) >= size)
        return bytes(self.received)


Connect = Callable[..., Pair]


@pytest_twisted.async_yield_fixture
async def connect() -> AsyncIterator[Connect]:
    pairs: list[Pair] = []

    def connect(limit: int = 1 << 30) -> Pair:
        pairs.append(Pair(limit))
        return pairs[-1]

    yield connect
    for pair in pairs:
        pair.client.close()
        if not pair.served.lost:
            pair.served.transport.abortConnection()
    await until(lambda: all(pair.served.lost for pair in pairs))


@pytest.fixture
def numbered() -> Iterator[bytes]:
    """Endless blocks of which each is another."""
    return (b"%07d " % number * 512 for number in range(1_000_000))


@pytest_twisted.ensureDeferred
async def test_where_nothing_waits_bytes_are_in_the_socket_at_once(connect: Connect) -> None:
    pair = connect()
    pair.outbox.push(b"at once")
    assert pair.read() == b"at once", "no turn of the reactor was needed"
    assert pair.outbox.waiting() == 0


@pytest_twisted.ensureDeferred
async def test_what_the_kernel_does_not_take_follows_in_order(connect: Connect, numbered: Iterator[bytes]) -> None:
    pair = connect()
    sent = b""
    while not pair.outbox.waiting():
        block = next(numbered)
        pair.outbox.push(block)
        sent += block
    for number in range(40):
        block = next(numbered)
        (pair.outbox.write if number % 3 else pair.outbox.push)(block)
        sent += block
    assert await pair.read_until(len(sent)) == sent
    assert pair.outbox.waiting() == 0
    pair.outbox.push(b"at once again")
    assert pair.read() == b"at once again"
    assert not pair.closed


@pytest_twisted.ensureDeferred
async def test_nothing_overtakes_what_waits_though_there_is_room_again(connect: Connect, numbered: Iterator[bytes]) -> None:
    pair = connect()
    sent = b""
    while not pair.outbox.waiting():
        block = next(numbered)
        pair.outbox.push(block)
        sent += block
    while pair.read():  # room in the socket, but the reactor has had no turn to use it
        pass
    pair.outbox.push(b"last")
    assert await pair.read_until(len(sent) + 4) == sent + b"last"


@pytest_twisted.ensureDeferred
async def test_a_socket_that_is_full_already_takes_it_later(connect: Connect) -> None:
    pair = connect()
    filled = 0
    with suppress(BlockingIOError):
        while True:
            filled += pair.served.transport.socket.send(b"x" * 1024)
    pair.outbox.push(b"last")
    assert pair.outbox.waiting() == 4
    assert await pair.read_until(filled + 4) == b"x" * filled + b"last"


@pytest_twisted.ensureDeferred
async def test_one_piece_larger_than_the_kernel_takes_arrives_whole(connect: Connect, numbered: Iterator[bytes]) -> None:
    pair = connect()
    sent = b"".join(next(numbered) for _ in range(500))
    pair.outbox.push(sent)
    assert 0 < pair.outbox.waiting() < len(sent), "a part of it was taken"
    assert await pair.read_until(len(sent)) == sent


@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_read_is_closed_once_and_only_past_the_limit(
    connect: Connect, numbered: Iterator[bytes]
) -> None:
    pair = connect(limit=100_000)
    most = 0
    for block in numbered:
        pair.outbox.push(block)
        if pair.closed:
            break
        most = max(most, pair.outbox.waiting())
    assert pair.closed == [SLOW_CONSUMER]
    assert 100_000 - 4096 <= most <= 100_000
    waiting = pair.outbox.waiting()
    pair.outbox.push(b"x" * 100_000)
    pair.outbox.write(b"x" * 100_000)
    pair.outbox.check()
    assert pair.outbox.waiting() == waiting and pair.closed == [SLOW_CONSUMER]


@pytest_twisted.ensureDeferred
async def test_a_client_that_reads_slowly_but_reads_is_not_closed(connect: Connect, numbered: Iterator[bytes]) -> None:
    pair = connect(limit=100_000)
    sent = b""
    for _ in range(200):
        block = next(numbered)
        pair.outbox.push(block)
        sent += block
        if pair.outbox.waiting() > 50_000:
            await until(lambda: pair.read(4096) == b"" or pair.outbox.waiting() <= 50_000)
    assert await pair.read_until(len(sent)) == sent
    assert not pair.closed


@pytest_twisted.ensureDeferred
async def test_a_client_that_is_gone_is_no_error_and_its_loss_is_told_later(connect: Connect) -> None:
    pair = connect()
    pair.client.close()
    pair.outbox.push(b"x" * 1000)
    pair.outbox.push(b"y")
    assert not pair.served.lost, "not in the middle of what somebody else is doing"
    await until(lambda: pair.served.lost)
    pair.outbox.push(b"z")
    pair.outbox.write(b"z")
    pair.outbox.flush()
    pair.outbox.check()
    assert not pair.closed


@pytest_twisted.ensureDeferred
async def test_a_transport_that_is_being_closed_gets_what_was_pushed_before_in_order(
    connect: Connect, numbered: Iterator[bytes]
) -> None:
    pair = connect()
    sent = b"".join(next(numbered) for _ in range(100))
    pair.outbox.push(sent)
    pair.served.transport.loseConnection()
    pair.outbox.push(b"too late, or last")
    await until(lambda: pair.read() is None or pair.served.lost)
    while pair.read():
        pass
    assert bytes(pair.received).removesuffix(b"too late, or last") == sent
