"""Clients to whom the last word has been said, and who are expected to close: by both carriers, on a clock of the test's."""

from __future__ import annotations

from random import Random
from socket import socketpair
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from nexus_tw.model.errors import SHUTTING_DOWN, TOKEN_EXPIRED, Close
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Heartbeat, Limits
from nexus_tw.runtime.turn import Turn
from nexus_tw.transport.admission import Admitted
from nexus_tw.transport.connections import Connections
from nexus_tw.transport.conversation import LINGER, PARTING
from nexus_tw.transport.heartbeat import Pulse
from nexus_tw.transport.rawsocket import GRACE, RawSockets
from nexus_tw.transport.websocket import Doorway
from tests.client import CLOSE, TEXT, frame, handshake
from tests.transport.house import JSON, Introducing, Session, hands, raw

LEFT = Close(1000, "Goodbye", False)


class Socket(StringTransportWithDisconnection):
    """The transport of a client that does nothing by itself: only an abort ends it at once."""

    dataBuffer, offset, _tempDataLen = b"", 0, 0
    socket, _other = socketpair()

    def loseConnection(self) -> None:
        self.disconnecting = True

    def unregisterProducer(self) -> None:
        pass

    def abortConnection(self) -> None:
        self.disconnecting = False
        super().loseConnection()  # type: ignore[no-untyped-call]


class Leaver:
    """A client whose session has just finished, by `web` or `raw`."""

    def __init__(self, carrier: str) -> None:
        self.carrier = carrier
        self.clock = Clock()
        self.metrics = Metrics()
        limits = Limits()
        self.connections = Connections(self.clock, limits, 10, Random(1))
        pulse = Pulse(self.clock, Heartbeat(), Random(1))
        shared = (self.clock, Turn(self.clock), pulse, self.connections, limits, self.metrics)
        dialect = Introducing(raw=carrier == "raw")
        admitted = Admitted(None, dialect, None, "192.0.2.1", 1000)
        if carrier == "web":
            connection: Any = Doorway(*shared).connection(admitted)
        else:
            sockets = RawSockets(*shared, {JSON: dialect})
            connection = sockets.connection(admitted, sockets.asked(hands()))
        self.connection = connection
        self.transport: Any = Socket()  # type: ignore[no-untyped-call]
        self.transport.protocol = connection
        connection.makeConnection(self.transport)
        if carrier == "web":
            connection.dataReceived(handshake())
        self.session: Session = dialect.sessions[0]
        self.session.say(b"the last word")
        self.session.link.finish(LEFT)
        self.clock.advance(0)
        assert self.heard().endswith(b"the last word")

    def heard(self) -> bytes:
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def say(self, payload: bytes) -> None:
        self.connection.dataReceived(frame(TEXT, payload) if self.carrier == "web" else raw(payload))

    @property
    def counted(self) -> bool:
        """Whether it is one of the open connections."""
        return len(self.connections) == 1

    def closing(self) -> bool:
        """Return whether it has just been told that this side closes."""
        self.clock.advance(0)
        return b"farewell 1000" in self.heard()

    def nothing_is_left(self) -> bool:
        return not self.connections and self.session.ended == 1 and not self.clock.getDelayedCalls()


@pytest.fixture(params=["web", "raw"])
def leaver(request: pytest.FixtureRequest) -> Leaver:
    return Leaver(request.param)


def test_nothing_more_happens_to_who_closes(leaver: Leaver) -> None:
    leaver.clock.advance(PARTING - 0.1)
    assert leaver.counted
    assert leaver.heard() == b""
    leaver.transport.abortConnection()
    assert leaver.nothing_is_left()
    assert leaver.metrics.connections_closed == {1000: 1}, "however the stream ended, the session ended well"


def test_who_does_not_close_is_closed_and_dropped(leaver: Leaver) -> None:
    leaver.clock.advance(PARTING - 0.1)
    leaver.say(b"so be it")
    leaver.clock.advance(0.1)
    assert leaver.closing()
    leaver.clock.pump([0.1] * round(LINGER / 0.1 - 1))
    assert leaver.counted
    leaver.clock.advance(0.3)
    assert leaver.nothing_is_left()
    assert leaver.metrics.connections_closed == {1000: 1}


@pytest.mark.parametrize("close", [SHUTTING_DOWN, TOKEN_EXPIRED])
def test_another_close_that_comes_first_is_the_one_that_counts(leaver: Leaver, close: Close) -> None:
    leaver.clock.advance(PARTING - 0.1)
    leaver.connection.close(close)
    leaver.clock.advance(0)
    assert b"farewell %d" % close.code in leaver.heard()
    patience = GRACE if leaver.carrier == "raw" and close.reconnect else LINGER
    leaver.clock.pump([0.1] * round(patience / 0.1 - 1))
    assert leaver.counted
    assert not leaver.closing(), "it was told once"
    leaver.clock.advance(0.3)
    assert leaver.nothing_is_left()
    assert leaver.metrics.connections_closed == {close.code: 1}


def test_a_drain_does_not_wait_for_it(leaver: Leaver) -> None:
    async def settled() -> None:
        pass

    drained = Deferred.fromCoroutine(leaver.connections.drain(60, settled))
    assert leaver.closing()
    leaver.transport.abortConnection()
    assert drained.called
    assert leaver.nothing_is_left()


def test_the_closing_handshake_of_a_client_is_answered_and_has_its_own_time() -> None:
    leaver = Leaver("web")
    leaver.clock.advance(PARTING - 0.1)
    leaver.connection.dataReceived(frame(CLOSE, (1000).to_bytes(2, "big")))
    assert leaver.heard() == b"\x88\x02\x03\xe8"
    leaver.clock.pump([0.1] * round(LINGER / 0.1 - 1))
    assert leaver.counted
    assert leaver.heard() == b""
    leaver.clock.advance(0.2)
    assert leaver.nothing_is_left()


def test_who_is_being_closed_cannot_finish(leaver: Leaver) -> None:
    leaver.connection.close(TOKEN_EXPIRED)
    leaver.session.link.finish(LEFT)
    leaver.clock.advance(0)
    leaver.transport.abortConnection()
    assert leaver.nothing_is_left()
    assert leaver.metrics.connections_closed == {4500: 1}
