"""Reads that hold many messages: some are handled in each turn, so that others are heard in between; by both carriers."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from nexus_tw.model.errors import SHUTTING_DOWN
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Heartbeat, Limits
from nexus_tw.runtime.turn import Turn
from nexus_tw.transport.admission import Admitted
from nexus_tw.transport.connections import Connections
from nexus_tw.transport.conversation import LEAST, PORTION
from nexus_tw.transport.heartbeat import Pulse
from nexus_tw.transport.rawsocket import RawSockets
from nexus_tw.transport.websocket import Doorway
from tests.client import PING, TEXT, frame, handshake
from tests.recording import principal
from tests.transport.house import JSON, Introducing, hands, raw
from tests.transport.http.test_finishing import Socket
from tests.turns import Turns

CONT = 0


class Node:
    """Clients by one carrier, and what was heard of each."""

    def __init__(self, carrier: str, rate: int = 0) -> None:
        self.carrier = carrier
        self.clock = Turns()
        self.limits = Limits(rate=rate, bytes_rate=0, subject_bytes_rate=0)
        self.connections = Connections(self.clock, self.limits, 1000, Random(1))
        self.metrics = Metrics()
        pulse = Pulse(self.clock, Heartbeat(), Random(1))
        self.shared = (self.clock, Turn(self.clock), pulse, self.connections, self.limits, self.metrics)

    def client(self) -> Client:
        return Client(self)

    def rest(self) -> None:
        """Let turns pass until everything that was read is handled."""
        for _ in range(1000):
            if not self.connections.resting:
                return
            self.clock.next()
        raise AssertionError("it never ends")


class Client:
    def __init__(self, node: Node) -> None:
        self.carrier = node.carrier
        dialect = Introducing(raw=node.carrier == "raw")
        admitted = Admitted(principal(), dialect, None, "192.0.2.1", 1000)
        if node.carrier == "web":
            self.connection: Any = Doorway(*node.shared).connection(admitted)
        else:
            sockets = RawSockets(*node.shared, {JSON: dialect})
            self.connection = sockets.connection(admitted, sockets.asked(hands()))
        self.transport: Any = Socket()  # type: ignore[no-untyped-call]
        self.transport.protocol = self.connection
        self.connection.makeConnection(self.transport)
        if node.carrier == "web":
            self.connection.dataReceived(handshake())
        sessions: list[Any] = [*dialect.sessions]
        self.session = sessions[0]
        self.heard: list[bytes] = []
        self.session.received = self._received

    def _received(self, payload: bytes, _is_binary: bool) -> None:
        self.heard.append(payload)
        if payload == b"fault":
            raise RuntimeError("a fault of ours")

    def sends(self, first: int, count: int) -> None:
        """That many messages, in one read."""
        self.connection.dataReceived(self.stream(first, count))

    def stream(self, first: int, count: int) -> bytes:
        return b"".join(self.packed(b"%d" % number) for number in range(first, first + count))

    def packed(self, payload: bytes) -> bytes:
        return frame(TEXT, payload) if self.carrier == "web" else raw(payload)

    def is_read(self) -> bool:
        return self.transport.producerState == "producing"  # type: ignore[no-any-return]


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


@pytest.fixture(params=["web", "raw"])
def node(request: pytest.FixtureRequest) -> Node:
    return Node(request.param)


def test_a_short_read_is_handled_at_once_and_costs_no_turn(node: Node) -> None:
    client = node.client()
    node.clock.next()
    before = len(node.clock.getDelayedCalls())
    client.sends(0, PORTION)
    assert client.heard == numbers(PORTION)
    assert client.is_read() and not node.connections.resting
    assert len(node.clock.getDelayedCalls()) <= before + 1, "what is written leaves at the end of the turn"


def test_a_long_read_takes_turns_in_order_and_nothing_is_read_meanwhile(node: Node) -> None:
    client = node.client()
    count = 3 * PORTION + 1
    client.sends(0, count)
    for portions in (1, 2, 3):
        assert client.heard == numbers(portions * PORTION)
        assert not client.is_read()
        node.clock.next()
    assert client.heard == numbers(count) and client.is_read()
    assert node.metrics.messages_received == count


def test_many_long_reads_share_a_turn(node: Node) -> None:
    clients = [node.client() for _ in range(4)]
    for client in clients:
        client.sends(0, 4 * PORTION)
    assert [len(client.heard) for client in clients] == [PORTION, PORTION // 2, PORTION // 3, PORTION // 4]
    before = [len(client.heard) for client in clients]
    node.clock.next()
    assert [len(client.heard) - count for client, count in zip(clients, before, strict=True)] == [PORTION // 4] * 4
    node.rest()
    assert [client.heard for client in clients] == [numbers(4 * PORTION)] * 4
    client = node.client()
    client.sends(0, 2 * PORTION)
    assert len(client.heard) == PORTION, "there is nobody left to share with"


def test_however_many_there_are_each_gets_on(node: Node) -> None:
    clients = [node.client() for _ in range(2 * PORTION // LEAST)]
    for client in clients:
        client.sends(0, 2 * PORTION)
    before = [len(client.heard) for client in clients]
    node.clock.next()
    assert [len(client.heard) - count for client, count in zip(clients, before, strict=True)] == [LEAST] * len(clients)


def test_what_still_comes_meanwhile_stands_behind(node: Node) -> None:
    """TLS gives what it has, read or not."""
    client = node.client()
    client.sends(0, 2 * PORTION)
    stream = client.stream(2 * PORTION, 50)
    for start in range(0, len(stream), 7):
        client.connection.dataReceived(stream[start : start + 7])
    node.rest()
    assert client.heard == numbers(2 * PORTION + 50) and client.is_read()


def test_what_was_read_is_handled_though_the_transport_is_lost(node: Node) -> None:
    client = node.client()
    client.sends(0, 4 * PORTION)
    client.transport.clear()
    client.connection.connectionLost(Failure(ConnectionLost()))
    assert client.heard == numbers(4 * PORTION) and client.session.ended == 1
    node.clock.next()
    assert client.heard == numbers(4 * PORTION) and not client.transport.value()
    assert not node.connections and not node.clock.getDelayedCalls()


def test_nothing_is_handled_behind_a_close(node: Node) -> None:
    client = node.client()
    client.sends(0, 2 * PORTION)
    handled = len(client.heard)
    client.session.link.close(SHUTTING_DOWN)
    node.rest()
    node.clock.next()
    assert len(client.heard) == handled
    client.connection.connectionLost(Failure(ConnectionDone()))
    assert client.session.ended == 1 and not node.clock.getDelayedCalls()


def test_a_client_that_sends_too_fast_rests_once_its_read_is_handled() -> None:
    for carrier in ("web", "raw"):
        node = Node(carrier, rate=100)
        client = node.client()
        client.sends(0, 2 * PORTION)
        node.clock.next()
        assert client.heard == numbers(PORTION) and not client.is_read(), "each portion counts, and the rest waits as well"
        node.clock.advance(10)
        node.clock.advance(10)
        assert client.heard == numbers(2 * PORTION) and client.is_read()


def test_a_message_that_fails_does_not_keep_those_behind_it(node: Node) -> None:
    client = node.client()
    with capturedLogs() as logs:
        client.connection.dataReceived(client.stream(0, PORTION) + client.packed(b"fault") + client.stream(PORTION, PORTION))
        node.rest()
    assert [payload for payload in client.heard if payload != b"fault"] == numbers(2 * PORTION)
    assert len(logs) == 1 and client.is_read()


def test_a_fault_while_a_read_is_worked_off_ends_the_connection(node: Node) -> None:
    client = node.client()
    client.sends(0, 2 * PORTION)
    client.connection.take = lambda _most, _inflated: 1 / 0
    with pytest.raises(ZeroDivisionError):  # which the reactor logs
        node.clock.next()
    assert not node.connections and not node.connections.resting


def test_frames_that_take_the_full_parser_take_turns_too() -> None:
    """Autobahn's steps are a frame's head and its payload."""
    client = (node := Node("web")).client()
    one = frame(TEXT, b"a", fin=False) + frame(PING, b"") + frame(CONT, b"b")
    client.connection.dataReceived(one * PORTION)
    assert len(client.heard) <= PORTION // 4
    node.rest()
    assert client.heard == [b"ab"] * PORTION
    assert client.transport.value().count(bytes((0x8A, 0))) == PORTION, "each ping was answered"


def test_behind_a_frame_that_came_in_two_reads_the_lane_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client = (node := Node("web")).client()
    parsed: list[int] = []
    parse = client.connection.processData

    def counting() -> bool:
        parsed.append(1)
        return parse()  # type: ignore[no-any-return]

    monkeypatch.setattr(client.connection, "processData", counting)
    stream = client.stream(0, 100)
    for cut in range(1, 8):
        parsed.clear()
        client.heard.clear()
        client.connection.dataReceived(stream[:-cut])
        client.connection.dataReceived(stream[-cut:] + stream)
        node.rest()
        assert client.heard == numbers(100) * 2
        assert len(parsed) <= 3
