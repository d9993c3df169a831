"""WebSocket connections: Autobahn's protocol, with a receive lane before it and an outbox behind it.

The class translates and forwards. What a client may, says or gets is the session's and the core's.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Final, NoReturn

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from nexus_tw import frames
from nexus_tw.errors import RATE_LIMITED, UNAUTHORIZED, Close, NexusError
from nexus_tw.interfaces import Peer
from nexus_tw.metrics import Metrics
from nexus_tw.sessions.life import new_life
from nexus_tw.sessions.verbs import Session
from nexus_tw.settings import Compression, Limits
from nexus_tw.transport.admission import Admitted
from nexus_tw.transport.bucket import Bucket
from nexus_tw.transport.compression import Deflaters, Inflater, accept, acceptable
from nexus_tw.transport.connections import Connections
from nexus_tw.transport.heartbeat import Pulse
from nexus_tw.transport.outbox import Outbox
from nexus_tw.transport.problems import response
from nexus_tw.transport.quiet import quieten
from nexus_tw.transport.turn import Turn

quieten()

LINGER: Final = 10.0  # s for a client to answer our close frame, which may stand behind a full queue
FAILED_LINGER: Final = 1.0  # s for one that broke the protocol, from which no answer is to be read (RFC 6455 section 7.1.7)
PATIENCE: Final = 60.0  # s for which a client may keep its bucket empty
RECOVERED: Final = 0.1  # of the bucket, from where on it no longer counts as kept empty
UNCOMPRESSED: Final = Compression(enabled=False)
LEAST_FRAGMENTS: Final = 1024  # frames of one message; more where the message limit allows more

_QUOTED: Final = re.compile(r"""(["']).*\1""", re.DOTALL)
_CONNECTING: Final = WebSocketProtocol.STATE_CONNECTING
_OPEN: Final = WebSocketProtocol.STATE_OPEN


class _Silence:
    """Takes Autobahn's log calls. It says a line at each step of each connection; ours is one line at the end."""

    def debug(self, *_args: Any, **_values: Any) -> None:
        pass

    info = warn = error = failure = critical = trace = debug


class Connection(WebSocketServerProtocol):
    """One client's connection; its life is `nexus_tw.sessions.life`."""

    log = _Silence()
    _log = Logger()

    _perMessageCompress: Any
    # until the handshake is through
    outbox: Outbox | None = None
    session: Session | None = None
    audience: Peer | None = None

    def __init__(self, door: Doorway, admitted: Admitted) -> None:
        super().__init__()
        self.door = door
        self.admitted = admitted
        self.life = new_life(self)
        self.address = admitted.address
        self.subject = admitted.principal.subject if admitted.principal else ""
        self.answer = b""
        self.received = 0
        self.fragments = 0
        self.opened = 0.0
        self.heard = self.next_ping = self.expires = 0.0
        self.slot = -1
        self.bucket = Bucket(door.limits.rate, door.clock.seconds()) if door.limits.rate else None
        self.dry_since: float | None = None
        self.closed: Close | None = None
        self.last_call: IDelayedCall | None = None  # after which a client that does not finish closing is dropped

    # --- the transport; the base class would describe it at length, for logs and for WAMP's own sessions

    def connectionMade(self) -> None:
        self.peer = self.address
        with suppress(AttributeError, OSError):  # a UNIX socket has no such option
            self.transport.setTcpNoDelay(True)
        self._connectionMade()

    def _onOpen(self) -> None:
        self.onOpen()

    # --- the handshake, of which Admission has decided everything but RFC 6455's own rules

    def onConnect(self, _request: Any) -> str | None:
        return self.admitted.subprotocol

    def _parseExtensionsHeader(self, header: str, removeQuotes: bool = True) -> list[Any]:
        # Autobahn would refuse the handshake over an offer that is not to its liking, wanted or not.
        return [] if self.door.deflaters is None else acceptable(super()._parseExtensionsHeader(header, removeQuotes))

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        # Autobahn's reasons repeat, in quotes, what the client sent: a token in the query, perhaps.
        self.wasNotCleanReason = "handshake"
        self.door.metrics.connections_refused["handshake"] += 1
        rule = _QUOTED.sub("…", reason)
        error = NexusError("invalid_message", f"Not a WebSocket opening handshake (RFC 6455 section 4.2.1): {rule}")
        self.transport.write(response(error, code, tuple(responseHeaders or ())))
        self.dropConnection(abort=False)

    def onOpen(self) -> None:
        door = self.door
        door.metrics.connections_opened += 1
        self.opened = door.clock.seconds()
        limit = max(door.limits.send_queue, 2 * self.maxMessagePayloadSize)
        pack = None
        agreed = self._perMessageCompress
        if agreed is not None and door.deflaters is not None:
            pack = door.deflaters.get(agreed.server_max_window_bits)
            self._perMessageCompress = Inflater()
        self.outbox = Outbox(self.transport, door.turn, limit, self.life.close, pack, self.answer)
        self.answer = b""
        door.connections.add(self)
        self.life.upgraded()
        if self.admitted.principal is None:
            self.life.close(UNAUTHORIZED)
        else:
            self.life.accepted()

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        # All that Autobahn itself sends: its answer to the handshake, which waits for the greeting and leaves with it, and
        # then pongs and closes, which stay behind what was queued before.
        if self.state == _CONNECTING:
            self.answer = data
            return
        if self.outbox is not None:
            self.outbox.flush()
        super().sendData(data, sync, chopsize)

    # --- the life's owner

    def begin(self) -> None:
        principal = self.admitted.principal
        assert principal is not None and self.outbox is not None
        self.session = self.admitted.dialect.session(self.outbox, principal, self.address)
        expires = principal.expires
        self.door.pulse.add(self, None if expires is None else max(0.0, expires - self.door.clock.seconds()))
        self.audience = self.session.peer
        self.session.begin()

    def farewell(self, close: Close) -> None:
        assert self.outbox is not None
        self.closed = close
        self.outbox.write(self.admitted.dialect.farewell(close))
        self.sendCloseFrame(close.code, close.reason.encode(), isReply=False)

    def end(self) -> None:
        self.audience = None
        self.door.pulse.remove(self)
        assert self.session is not None
        self.session.end()

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        # Every close passes here, Autobahn's own answers and failures too: no frame may follow it (section 5.5.1).
        if self.state == _OPEN and self.outbox is not None:
            self.outbox.flush()
            self.outbox.shut()
            super().sendCloseFrame(code, reasonUtf8, isReply)
            # Also one who closed itself may never read, and so keep the last bytes and the socket.
            self.last_call = self.door.clock.callLater(FAILED_LINGER if self.failedByMe else LINGER, self.drop)
            self.life.closing()
        # The other side need not be told twice, and what still comes from it is of no interest.

    def dropConnection(self, abort: bool = False) -> None:
        # Autobahn takes a wrong close frame also for the answer to the one that it has just sent because of it, and would
        # abort before that has left.
        super().dropConnection(abort and not self.failedByMe)

    # --- what the doors and the pulse ask of it

    def close(self, close: Close) -> None:
        self.life.close(close)

    def drop(self) -> None:
        self.transport.abortConnection()

    def ping(self) -> None:
        assert self.outbox is not None
        self.outbox.push(self.admitted.dialect.heartbeat)

    # --- receiving

    def dataReceived(self, data: bytes) -> None:
        door = self.door
        self.heard = door.pulse.now
        before = self.received
        if (
            self.state == _OPEN
            and door.lane
            and not self.data
            and self.current_frame is None
            and not self.inside_message
        ):
            used, count = frames.split(data, self.maxMessagePayloadSize, self._hand)
            self.received += count
            if used:
                data = data[used:]
        if data:
            self._dataReceived(data)
            if self.outbox is not None:
                self.outbox.check()
        if self.received != before:
            door.metrics.messages_received += self.received - before
            if self.bucket is not None:
                self._meter(self.received - before, self.bucket)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.fragments = 0
        self.received += 1
        if self.state == _OPEN:
            self._hand(payload, isBinary)

    def onMessageFrameBegin(self, length: int) -> None:
        # Fragments may be empty, so the message limit alone does not bound what a message costs.
        self.fragments += 1
        if self.fragments > max(LEAST_FRAGMENTS, self.maxMessagePayloadSize // 64):
            self._fail_connection(WebSocketProtocol.CLOSE_STATUS_CODE_MESSAGE_TOO_BIG, "too many fragments")
        super().onMessageFrameBegin(length)

    def onPing(self, payload: bytes) -> None:
        self.received += 1
        super().onPing(payload)

    def onPong(self, payload: bytes) -> None:
        self.received += 1

    def _hand(self, payload: bytes, is_binary: bool) -> bool:
        assert self.session is not None
        try:
            self.session.received(payload, is_binary)
        except Exception:
            self._log.failure("A message from {address} could not be handled", address=self.address)
            self.session.broken()
        return bool(self.state == _OPEN)

    def _meter(self, messages: int, bucket: Bucket) -> None:
        now = self.door.clock.seconds()
        if self.dry_since is not None:
            bucket.spend(0, now)
            if bucket.slack > RECOVERED:  # however large what comes now is, it rested
                self.dry_since = None
        wait = bucket.spend(messages, now)
        if not wait:
            return
        if self.dry_since is None:
            self.dry_since = now
        elif now - self.dry_since > PATIENCE:
            self.life.close(RATE_LIMITED)
            return
        self.door.metrics.reads_paused += 1
        self.transport.pauseProducing()
        self.door.clock.callLater(wait, self._resume)

    def _resume(self) -> None:
        if self.state != WebSocketProtocol.STATE_CLOSED:
            self.transport.resumeProducing()

    # --- the end

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.life.lost()
        if self.last_call is not None and self.last_call.active():
            self.last_call.cancel()
        if self.outbox is None:
            return
        self.outbox.shut()
        door = self.door
        door.connections.remove(self)
        ours = self.closed
        final = ours.code if ours else self.localCloseCode or code or 1005
        door.metrics.connections_closed[final] += 1
        self._log.info(
            "{subject} from {address} left after {seconds:.1f} s: {code} {reason} ({received} messages in)",
            subject=self.subject or "nobody",
            address=self.address,
            seconds=door.clock.seconds() - self.opened,
            code=final,
            reason=ours.reason if ours else _described(self),
            received=self.received,
        )


def _described(connection: Any) -> str:
    reason = connection.localCloseReason or connection.remoteCloseReason or b""
    return reason.decode() if isinstance(reason, bytes) else reason


def _static(option: Any) -> Any:
    # In a class, a function would become a method.
    return staticmethod(option) if callable(option) else option


class Doorway(WebSocketServerFactory):
    """Makes connections, and holds what they share."""

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
        """`lane` puts `frames.split` before Autobahn's parser; without it everything takes the slow way, for comparison."""
        super().__init__(reactor=reactor, server="")
        self.clock = reactor
        self.turn = turn
        self.pulse = pulse
        self.connections = connections
        self.limits = limits
        self.metrics = metrics
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
            closeHandshakeTimeout=0,  # `last_call`, which holds for all closes
            tcpNoDelay=True,
            allowedOrigins=["*"],  # Admission has decided
            allowNullOrigin=True,
            perMessageCompressionAccept=accept,
        )
        # Autobahn copies its options into each connection unless it finds them in the class: so put them there, once for
        # each message limit, and save 2 kB and some time per connection.
        self._kinds: dict[int, type[Connection]] = {}

    def connection(self, admitted: Admitted) -> Connection:
        """A connection for an admitted upgrade, to be given the transport and then the request's bytes."""
        kind = self._kinds.get(admitted.message)
        if kind is None:
            options = {name: _static(getattr(self, name)) for name in Connection.CONFIG_ATTRS}
            options["CONFIG_ATTRS"] = ()  # nothing is left to copy, and to write out for a log line that nobody reads
            options["maxMessagePayloadSize"] = options["maxFramePayloadSize"] = admitted.message
            kind = self._kinds[admitted.message] = type("Connection", (Connection,), options)
        connection = kind(self, admitted)
        connection.factory = self
        return connection

    def buildProtocol(self, _addr: object) -> NoReturn:
        raise TypeError("connections are made for admitted upgrades only")
