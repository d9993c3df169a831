"""RawSocket: messages over a plain connection, for WAMP clients that need no HTTP (WAMP, "RawSocket Transport").

The handshake is four bytes each way. Frames follow, each with a kind, a length and a payload. There is no close frame:
the dialect's last message announces the close, then the stream ends.

Many clients do not support PING: they fail on it, take it for the head of a message, or never answer. So a client is pinged
only once it has sent a PING or a PONG, and until then its connection is monitored by TCP keepalive.
"""

from __future__ import annotations

import fcntl
import sys
import termios
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import IntEnum
from typing import Any, Final

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection as SocketTransport
from twisted.python.failure import Failure

from nexus_tw.interfaces.sessions import Dialect
from nexus_tw.model.errors import Close
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Limits
from nexus_tw.protocols import frames
from nexus_tw.runtime.turn import Turn
from nexus_tw.transport.admission import Admitted
from nexus_tw.transport.connections import Connections
from nexus_tw.transport.conversation import LINGER, Conversation, Shared
from nexus_tw.transport.heartbeat import Pulse
from nexus_tw.transport.keepalive import hurry, keep_alive, silence

MAGIC: Final = 0x7F  # the first byte of either side; no HTTP request begins with it
HANDSHAKE: Final = 4  # bytes
JSON: Final = 1  # the serializer with text messages
LEAST: Final = 2048  # bytes that a client must accept: WAMP's WELCOME with the longest possible names

# Codes of RFC 6455, so that logs and metrics have one set of codes.
VIOLATION: Final = Close(1002, "Protocol violation", False)
NOT_UTF8: Final = Close(1007, "Invalid UTF-8", False)
TOO_LONG: Final = Close(1009, "Message too long", False)

GRACE: Final = 0.5  # s for the last message to arrive and take effect before the stream ends or is reset
LOOK: Final = 0.05  # s between two checks whether the client's side has acknowledged all bytes sent
TICK: Final = 0.02  # s; the kernel may round down by that much

_FIRST_POWER: Final = 9  # 512 bytes, encoded as length 0 in a handshake


class HandshakeError(IntEnum):
    """Why a client is refused, as encoded in the handshake."""

    SERIALIZER = 1
    LENGTH = 2
    RESERVED = 3
    CONNECTIONS = 4

    @property
    def answer(self) -> bytes:
        return bytes((MAGIC, self << 4, 0, 0))


class Unacceptable(Exception):
    """A handshake with an unsupported request."""

    def __init__(self, refusal: HandshakeError) -> None:
        super().__init__(refusal.name)
        self.refusal = refusal


class Asked:
    """The request of a client's handshake: a serializer, and the `largest` message in bytes that it accepts."""

    __slots__ = ("dialect", "largest", "serializer")

    def __init__(self, dialect: Dialect, serializer: int, largest: int) -> None:
        self.dialect = dialect
        self.serializer = serializer
        self.largest = largest


class Fitting:
    """Removes and counts frames that are too long for clients with one `largest`; the `pack` of their `Outbox`."""

    __slots__ = ("_fitting", "_known", "_largest", "_left_out", "_metrics")

    def __init__(self, largest: int, metrics: Metrics) -> None:
        self._largest = largest
        self._metrics = metrics
        # The last result: a batch of events is sent to all its recipients one after another.
        self._known = self._fitting = b""
        self._left_out = 0

    def __call__(self, data: bytes) -> bytes:
        """Return the same whole frames without those that are too long."""
        if len(data) <= self._largest:
            return data
        if data is not self._known:
            self._look(data)
        if self._left_out:
            self._metrics.events_dropped["too_large"] += self._left_out
        return self._fitting

    def _look(self, data: bytes) -> None:
        parts = []
        start = self._left_out = 0
        while start < len(data):
            _kind, length = frames.rawsocket_head(int.from_bytes(data[start : start + frames.RAW_HEAD]))
            end = start + frames.RAW_HEAD + length
            if length <= self._largest:
                parts.append(data[start:end])
            else:
                self._left_out += 1
            start = end
        self._known = data
        self._fitting = b"".join(parts)


class RawSocketConnection(Conversation, Protocol):
    """A client over RawSocket."""

    __slots__ = ("_asked", "_held", "_most", "_wanted")

    door: RawSockets

    def __init__(self, door: RawSockets, admitted: Admitted, asked: Asked) -> None:
        Conversation.__init__(self, door, admitted)
        self.answers = False  # until it has sent a PING or PONG
        self._asked = asked
        self._held: bytes | bytearray | None = None  # bytes read and not yet processed
        self._most = admitted.message  # bytes of the longest accepted frame
        self._wanted = 0  # bytes needed before parsing can continue

    def connectionMade(self) -> None:
        with suppress(AttributeError, OSError):  # a UNIX socket has no such option
            self.transport.setTcpNoDelay(True)
        keep_alive(self.transport, self.door.pulse.settings)
        asked = self._asked
        self.transport.write(bytes((MAGIC, self.door.length << 4 | asked.serializer, 0, 0)))
        self.open(self.door.fitting(asked.largest), asked.largest)

    def take_leave(self, close: Close) -> None:
        assert self.outbox is not None
        self.outbox.flush()
        self.outbox.shut()
        self._call_last(GRACE, self._reset if close.reconnect else self._end, self.door.clock.seconds() + LINGER)

    def _reset(self, latest: float) -> None:
        # AutobahnJS does not notice the end of a stream, nor a reset after it, and would never reconnect. A reset loses bytes
        # that the other side has not acknowledged.
        assert self.outbox is not None
        if self.door.clock.seconds() < latest and (self.outbox.waiting() or _unacknowledged(self.transport)):
            self._call_last(LOOK, self._reset, latest)
        else:
            self.drop()

    def _end(self, latest: float) -> None:
        if isinstance(self.transport, SocketTransport):
            # The other side has to close too: closing a socket with unread bytes resets the connection, which loses the last
            # message.
            self.transport.loseWriteConnection()
        else:  # TLS waits for the other side's answer by itself
            self.transport.loseConnection()
        self.linger(latest - self.door.clock.seconds())

    def bound(self, size: int) -> None:
        self._most = size

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.finish_reading()
        self._held = None
        self.gone(1005 if reason.check(ConnectionDone) else 1006, "")

    # --- probing for a sign of life

    def inquire(self) -> None:
        if self.answers:
            self.ping()
        else:
            hurry(self.transport)

    def shows_life(self, mark: float, seconds: float) -> bool:
        if super().shows_life(mark, seconds):
            return True
        if self.answers or silence(self.transport) >= seconds - TICK:
            return False
        keep_alive(self.transport, self.door.pulse.settings)
        return True

    # --- receiving

    def dataReceived(self, data: bytes) -> None:
        if self.session is None:  # it is being closed
            return
        self.heard = self.door.pulse.now
        size = len(data)
        if self._held is not None:
            self._held += data
            if self.resting or len(self._held) < self._wanted:  # under TLS more may arrive during a pause
                self.meter(0, size)
                return
        else:
            self._held = data
        self.handle(size)

    def take(self, most: int, inflated: int) -> bool:
        held, self._held = self._held, None
        if held is None or self.session is None:
            return False
        data = bytes(held)
        used = self._frames(data, most)
        if used < len(data) and self.session is not None:
            self._held = bytearray(data[used:])
            return not self._wanted
        return False

    def _frames(self, data: bytes, most: int) -> int:
        """Process at most `most` of the whole frames at the beginning of `data`. Return how many bytes they are."""
        size = len(data)
        start = 0
        for _ in range(most):
            begin = start + frames.RAW_HEAD
            self._wanted = frames.RAW_HEAD
            if begin > size:
                return start
            try:
                kind, length = frames.rawsocket_head(int.from_bytes(data[start:begin]))
            except ValueError:
                self.close(VIOLATION)
                return start
            if length > self._most:
                self.overran()
                self.close(TOO_LONG)
                return start
            end = begin + length
            if end > size:
                self._wanted = end - start
                return start
            self.received += 1
            start = end
            if not self._frame(kind, data[begin:end]):
                return start
        self._wanted = 0  # there may be more whole ones
        return start

    def _frame(self, kind: int, payload: bytes) -> bool:
        """Process a frame. Return whether further frames are accepted."""
        if kind == frames.RAW_MESSAGE:
            return self._message(payload)
        self.answers = True
        if kind == frames.RAW_PING:
            assert self.outbox is not None
            self.outbox.write(frames.rawsocket(payload, frames.RAW_PONG))
        return True

    def _message(self, payload: bytes) -> bool:
        binary = self._asked.serializer != JSON
        if not (binary or payload.isascii()):
            try:
                payload.decode()
            except UnicodeDecodeError:
                self.close(NOT_UTF8)
                return False
        return self.hand(payload, binary)


class RawSockets(Shared):
    """Makes connections, and holds their shared objects."""

    def __init__(
        self,
        clock: IReactorTime,
        turn: Turn,
        pulse: Pulse,
        connections: Connections,
        limits: Limits,
        metrics: Metrics,
        dialects: Mapping[int, Dialect],
    ) -> None:
        """`dialects` by the number of the serializer."""
        super().__init__(clock, turn, pulse, connections, limits, metrics)
        self._dialects = dialects
        # No frame can be longer, whatever the settings allow.
        self.message = min(self.limits.message or frames.RAW_LARGEST, frames.RAW_LARGEST)
        self.length = max(0, (self.message - 1).bit_length() - _FIRST_POWER)
        self._fittings: dict[int, Fitting] = {}

    def asked(self, opening: bytes) -> Asked:
        """Parse the handshake of a client, or raise `Unacceptable`. `opening` has `HANDSHAKE` bytes, the first is `MAGIC`."""
        _, wishes, *reserved = opening
        if any(reserved):
            raise self._unacceptable(HandshakeError.RESERVED)
        serializer = wishes & 0x0F
        dialect = self._dialects.get(serializer)
        if dialect is None:
            raise self._unacceptable(HandshakeError.SERIALIZER)
        largest = 1 << (wishes >> 4) + _FIRST_POWER
        if largest < LEAST:
            raise self._unacceptable(HandshakeError.LENGTH)
        return Asked(dialect, serializer, largest)

    def fitting(self, largest: int) -> Callable[[bytes], bytes] | None:
        """Return a function that removes longer messages; None if there are none."""
        if largest >= frames.RAW_LARGEST:
            return None
        fitting = self._fittings.get(largest)
        if fitting is None:
            fitting = self._fittings[largest] = Fitting(largest, self.metrics)
        return fitting

    def connection(self, admitted: Admitted, asked: Asked) -> RawSocketConnection:
        """Return a connection for an admitted client; give it the transport and then the bytes after the handshake."""
        return RawSocketConnection(self, admitted, asked)

    def _unacceptable(self, refusal: HandshakeError) -> Unacceptable:
        self.metrics.connections_refused["handshake"] += 1
        return Unacceptable(refusal)


def _unacknowledged(transport: Any) -> int:
    """Return how many bytes the kernel keeps because the other side has not acknowledged them (tcp(7), unix(7): SIOCOUTQ)."""
    return int.from_bytes(fcntl.ioctl(transport.socket, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
