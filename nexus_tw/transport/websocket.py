"""WebSocket connections: Autobahn's protocol, with a receive lane before it and an outbox behind it.

The class translates and forwards; the common part of all carriers is in `nexus_tw.transport.conversation`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Final, NoReturn

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from nexus_tw.model.errors import Close, NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Compression, Limits
from nexus_tw.protocols import frames
from nexus_tw.runtime.turn import Turn
from nexus_tw.transport.admission import Admitted
from nexus_tw.transport.compression import Deflaters, Inflater, accept, acceptable
from nexus_tw.transport.connections import Connections
from nexus_tw.transport.conversation import LINGER, Conversation, Shared
from nexus_tw.transport.heartbeat import Pulse
from nexus_tw.transport.http.problems import response
from nexus_tw.transport.life import ENDED
from nexus_tw.transport.quiet import quieten

quieten()

FAILED_LINGER: Final = 1.0  # s for a client that violated the protocol; its answer is not read (RFC 6455 section 7.1.7)
UNCOMPRESSED: Final = Compression(enabled=False)
LEAST_FRAGMENTS: Final = 1024  # frames of one message; more if the message limit allows more

# Registered after Autobahn's list of codes that a client may close with (IANA's registry, RFC 6455 section 11.7).
BAD_GATEWAY: Final = 1014

_QUOTED: Final = re.compile(r"""(["']).*\1""", re.DOTALL)
_CONNECTING: Final = WebSocketProtocol.STATE_CONNECTING
_OPEN: Final = WebSocketProtocol.STATE_OPEN
_TAKING: Final = (WebSocketProtocol.STATE_OPEN, WebSocketProtocol.STATE_CLOSING)
_CLOSED: Final = WebSocketProtocol.STATE_CLOSED


class _Silence:
    """Discards Autobahn's log calls. It logs a line at each step of each connection; Nexus logs one line at the end."""

    def debug(self, *_args: Any, **_values: Any) -> None:
        pass

    info = warn = error = failure = critical = trace = debug


class WebSocketConnection(Conversation, WebSocketServerProtocol):
    """A WebSocket."""

    log = _Silence()

    door: Doorway
    data: bytes  # bytes read and not yet parsed
    _perMessageCompress: Any

    def __init__(self, door: Doorway, admitted: Admitted) -> None:
        WebSocketServerProtocol.__init__(self)
        Conversation.__init__(self, door, admitted)
        self.answer = b""
        self.fragments = 0
        self.parting: int | None = None  # the code that the client closed with

    # --- the transport; the base class would make a long description of it, for logs and for its own WAMP sessions

    def connectionMade(self) -> None:
        self.peer = self.address
        with suppress(AttributeError, OSError):  # a UNIX socket has no such option
            self.transport.setTcpNoDelay(True)
        self._connectionMade()

    def _onOpen(self) -> None:
        self.onOpen()

    # --- the handshake: Admission has decided everything but RFC 6455's own rules

    def onConnect(self, _request: Any) -> str | None:
        return self.admitted.subprotocol

    def _parseExtensionsHeader(self, header: str, removeQuotes: bool = True) -> list[Any]:
        # Autobahn would refuse the handshake because of an unacceptable offer, even if compression is off.
        return [] if self.door.deflaters is None else acceptable(super()._parseExtensionsHeader(header, removeQuotes))

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        # Autobahn's reasons quote the client's input: perhaps a token in the query.
        self.wasNotCleanReason = "handshake"
        self.door.metrics.connections_refused["handshake"] += 1
        rule = _QUOTED.sub("…", reason)
        error = NexusError("invalid_message", f"Not a WebSocket opening handshake (RFC 6455 section 4.2.1): {rule}")
        self.transport.write(response(error, code, tuple(responseHeaders or ())))
        self.dropConnection(abort=False)

    def onOpen(self) -> None:
        pack = None
        agreed = self._perMessageCompress
        if agreed is not None and self.door.deflaters is not None:
            pack = self.door.deflaters.get(agreed.server_max_window_bits)
            self._perMessageCompress = Inflater()
        self.open(pack, first=self.answer)
        self.answer = b""

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        # Everything that Autobahn itself sends: its handshake response, which waits for the greeting and is sent with it, and
        # then pongs and closes, which stay behind bytes queued earlier.
        if self.state == _CONNECTING:
            self.answer = data
            return
        if self.outbox is not None:
            self.outbox.flush()
        super().sendData(data, sync, chopsize)

    # --- closing

    def take_leave(self, close: Close) -> None:
        self.sendCloseFrame(close.code, close.reason.encode(), isReply=False)

    def bound(self, size: int) -> None:
        self.maxMessagePayloadSize = self.maxFramePayloadSize = size

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        self.parting = code
        known = WebSocketProtocol.CLOSE_STATUS_CODE_NORMAL if code == BAD_GATEWAY else code
        failed: bool | None = super().onCloseFrame(known, reasonRaw)
        return failed

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        # Every close passes here, Autobahn's own answers and failures too: no frame may follow it (section 5.5.1).
        if self.state == _OPEN and self.outbox is not None:
            self.outbox.flush()
            self.outbox.shut()
            super().sendCloseFrame(self.parting if isReply else code, reasonUtf8, isReply)
            if self.failedByMe and code == WebSocketProtocol.CLOSE_STATUS_CODE_MESSAGE_TOO_BIG:
                self.overran()
            self.linger(FAILED_LINGER if self.failedByMe else LINGER)  # also a client that closed itself
            self.life.closing()
        # The other side need not be told twice, and its further input is ignored.

    def dropConnection(self, abort: bool = False) -> None:
        # Autobahn treats an invalid close frame also as the answer to the close that it has just sent because of it, and would
        # abort before that close is sent.
        super().dropConnection(abort and not self.failedByMe)

    # --- receiving

    def dataReceived(self, data: bytes) -> None:
        self.heard = self.door.pulse.now
        size = len(data)
        if self.state == _CONNECTING:
            self._dataReceived(data)
        elif self.state != _CLOSED:
            self.data = self.data + data if self.data else data
        if self.resting:  # under TLS more may arrive during a pause
            self.meter(0, size)
        else:
            self.handle(size)

    def consumeData(self) -> None:
        # Autobahn would process all bytes received; after the handshake `take` does that.
        if self.state == _CONNECTING:
            super().consumeData()

    def take(self, most: int, inflated: int) -> bool:
        inflated += self.unmetered
        while (self.data or self.current_frame is not None) and self.state in _TAKING:
            if most <= 0 or self.unmetered >= inflated:
                return True
            # Autobahn leaves an incomplete head of a frame in `data`, so the lane may parse it again.
            if self.state == _OPEN and self.current_frame is None and not self.inside_message and self.door.lane:
                used, count = frames.split(self.data, self.maxMessagePayloadSize, self.hand, most)
                if used:
                    self.received += count
                    most -= count
                    self.data = self.data[used:]
                    if self.data:
                        continue
                    break
            most -= 1  # a head and a payload are a step each
            more = self.processData()
            if self.outbox is not None:
                self.outbox.check()
            if not more:
                break
        return False

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.fragments = 0
        self.received += 1
        if self._perMessageCompress is not None:
            self.unmetered += len(payload)  # the inflated size
        self.hand(payload, isBinary)

    def onMessageFrameBegin(self, length: int) -> None:
        # Fragments may be empty, so the message limit alone does not bound the cost of a message.
        self.fragments += 1
        if self.fragments > max(LEAST_FRAGMENTS, self.maxMessagePayloadSize // 64):
            self._fail_connection(WebSocketProtocol.CLOSE_STATUS_CODE_MESSAGE_TOO_BIG, "too many fragments")
        super().onMessageFrameBegin(length)

    def onPing(self, payload: bytes) -> None:
        self.received += 1
        super().onPing(payload)

    def onPong(self, payload: bytes) -> None:
        self.received += 1

    # --- the end

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.finish_reading()
        self._connectionLost(reason)
        self.life = ENDED  # also after a failed handshake, which `onClose` does not report
        # Both may hold the connection as their result.
        self.is_open = self.is_closed = None

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.gone(self.localCloseCode or code or 1005, _described(self))


def _described(connection: Any) -> str:
    reason = connection.localCloseReason or connection.remoteCloseReason or b""
    return reason.decode() if isinstance(reason, bytes) else reason


def _static(option: Any) -> Any:
    # In a class, a function would become a method.
    return staticmethod(option) if callable(option) else option


class Doorway(Shared, WebSocketServerFactory):
    """Makes connections, and holds their shared objects."""

    log = _Silence()

    def __init__(
        self,
        reactor: IReactorTime,
        turn: Turn,
        pulse: Pulse,
        connections: Connections,
        limits: Limits,
        metrics: Metrics,
        lane: bool = True,
        compression: Compression = UNCOMPRESSED,
    ) -> None:
        """`lane` puts `frames.split` before Autobahn's parser; without it all frames take the slow path, for comparison."""
        Shared.__init__(self, reactor, turn, pulse, connections, limits, metrics)
        WebSocketServerFactory.__init__(self, reactor=reactor, server="")
        self.lane = lane
        self.deflaters = Deflaters(compression) if compression.enabled else None
        self.setProtocolOptions(
            versions=[13],
            webStatus=False,
            utf8validateIncoming=True,
            requireMaskedClientFrames=True,
            failByDrop=False,
            echoCloseCodeReason=False,
            openHandshakeTimeout=0,  # the door has the whole header block before it opens
            closeHandshakeTimeout=0,  # `last_call` applies to all closes
            tcpNoDelay=True,
            allowedOrigins=["*"],  # Admission has decided
            allowNullOrigin=True,
            perMessageCompressionAccept=accept,
        )
        # Autobahn copies its options into each connection unless it finds them in the class: put them there, once for
        # each message limit, to save 2 kB and some time per connection.
        self._kinds: dict[int, type[WebSocketConnection]] = {}

    def connection(self, admitted: Admitted) -> WebSocketConnection:
        """Return a connection for an admitted upgrade; give it the transport and then the request's bytes."""
        kind = self._kinds.get(admitted.message)
        if kind is None:
            options = {name: _static(getattr(self, name)) for name in WebSocketConnection.CONFIG_ATTRS}
            options["CONFIG_ATTRS"] = ()  # nothing is left to copy, or to format for a discarded log line
            options["maxMessagePayloadSize"] = options["maxFramePayloadSize"] = admitted.message
            kind = self._kinds[admitted.message] = type("WebSocketConnection", (WebSocketConnection,), options)
        connection = kind(self, admitted)
        connection.factory = self
        return connection

    def buildProtocol(self, _addr: object) -> NoReturn:
        raise TypeError("connections are made for admitted upgrades only")
