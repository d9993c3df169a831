"""The door: stands between an accepted connection and its parser.

It keeps a new connection's first bytes until the header block is complete, within a bounded time and size, checks every byte,
and hands the connection over: an admitted WebSocket upgrade to Autobahn, an event stream to `nexus_tw.transport.http.stream`,
any other request to Twisted Web, and a connection that begins with a byte that no request begins with to RawSocket. Then it is
discarded.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IProtocolNegotiationFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.web.server import Request, Site
from zope.interface import implementer

from nexus_tw.model.errors import NexusError
from nexus_tw.model.settings import Limits
from nexus_tw.transport.admission import Admission, Refused
from nexus_tw.transport.http.problems import response
from nexus_tw.transport.http.stream import EventStreams
from nexus_tw.transport.listening.tls import SPOKEN, common_name
from nexus_tw.transport.opening import Opening, Oversized, measure, read
from nexus_tw.transport.rawsocket import HANDSHAKE, MAGIC, HandshakeError, RawSockets, Unacceptable
from nexus_tw.transport.websocket import Doorway

T = TypeVar("T")

LONGEST_BODY_START: Final = 65536  # bytes after the header block that are kept while a client is being authenticated


class Door(Protocol):
    """A connection until its purpose is known."""

    _log = Logger()

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._data = b""
        self._timer: IDelayedCall | None = None
        # Functions, not methods: a bound method would keep the door alive.
        self._take: Callable[[Door, bytes], None] = Door._look

    def connectionMade(self) -> None:
        doors = self._doors
        self._timer = doors.clock.callLater(doors.limits.handshake, self._late)

    def dataReceived(self, data: bytes) -> None:
        self._take(self, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._done()
        self._take = Door._ignore
        self.transport = None

    # --- processing of incoming bytes

    def _look(self, data: bytes) -> None:
        if data[0] == MAGIC and not self._data:
            self._take = Door._shake_hands
            self._shake_hands(data)
            return
        known = len(self._data)
        self._data += data
        try:
            begin, end = measure(self._data, known, self._doors.largest)
        except Oversized as error:
            self._refuse(error, error.status)
            return
        if end:
            self._data = self._data[begin:]
            self._opened(end - begin)

    def _shake_hands(self, data: bytes) -> None:
        self._data += data
        if len(self._data) >= HANDSHAKE:
            self._rawsocket()

    def _keep(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > self._doors.largest + LONGEST_BODY_START:
            self._abort()

    def _ignore(self, data: bytes) -> None:
        """The connection is being closed; under TLS bytes may still come."""

    # ---

    def _opened(self, end: int) -> None:
        try:
            opening = read(self._data[:end])
        except NexusError as error:
            self._refuse(error, 400)
            return
        if opening.upgrade:
            self._data = opening.handshake() + self._data[end:]
            self._upgrade(opening)
        elif opening.event_stream:
            self._data = b""
            self._stream(opening)
        else:
            self._done()
            channel: Any = self._doors.site.buildProtocol(self._peer())
            channel.first = opening
            self._hand_over(channel)

    def _upgrade(self, opening: Opening) -> None:
        doors = self._doors
        transport = self.transport
        decision = doors.admission.admit(opening, self._host(), lambda: common_name(transport))
        self._decide(decision, doors.websocket.connection, self._refused)

    def _stream(self, opening: Opening) -> None:
        doors = self._doors
        transport = self.transport
        decision = doors.admission.admit_stream(opening, self._host(), lambda: common_name(transport))
        self._decide(
            decision, lambda who: doors.streams.connection(who, opening), lambda failure: self._refused(failure, opening)
        )

    def _rawsocket(self) -> None:
        rawsockets = self._doors.rawsockets
        transport = self.transport
        opening, self._data = self._data[:HANDSHAKE], self._data[HANDSHAKE:]
        try:
            asked = rawsockets.asked(opening)
        except Unacceptable as wish:
            self._turn_away(wish.refusal)
            return
        decision = self._doors.admission.admit_rawsocket(
            asked.dialect, self._host(), lambda: common_name(transport), rawsockets.message
        )
        self._decide(decision, lambda who: rawsockets.connection(who, asked), self._turned_away)

    def _decide(
        self,
        decision: Coroutine[Any, Any, T],
        make: Callable[[T], IProtocol],
        refused: Callable[[Failure], None],
    ) -> None:
        """Hand the connection over to the product of `make`, once the decision is made."""
        self._done()
        self._take = Door._keep
        transport: Any = self.transport
        admitted = ensureDeferred(decision)
        if not admitted.called:
            # An authenticator makes an external look-up: meanwhile the client's data can wait in its socket.
            transport.pauseProducing()

            def resume(result: Any) -> Any:
                if self.transport is not None:
                    transport.resumeProducing()
                return result

            admitted.addBoth(resume)
        admitted.addCallback(lambda who: self._hand_over(make(who)))
        admitted.addErrback(refused)

    def _refused(self, failure: Failure, stream: Opening | None = None) -> None:
        """Answer an upgrade, or an event stream, that is refused."""
        refusal = failure.value
        if isinstance(refusal, NexusError):
            refusal = Refused(refusal, refusal.kind.http)
        elif not isinstance(refusal, Refused):
            self._log.failure("A connection could not be decided", failure)
            refusal = Refused(NexusError("internal", "Something went wrong in the server"), 500)
        if stream is None:
            self._refuse(refusal.error, refusal.status, refusal.headers)
        else:
            self._answer(refusal.status, self._doors.streams.refusal(stream, refusal))

    def _hand_over(self, protocol: IProtocol) -> None:
        self._done()
        transport, data = self.transport, self._data
        if transport is None:  # lost meanwhile
            return
        self.transport = None
        self._data = b""
        take_over(transport, protocol)
        protocol.dataReceived(data)

    def _refuse(self, error: NexusError, status: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self._answer(status, response(error, status, headers))

    def _answer(self, status: int, answer: bytes) -> None:
        """Send the answer to a connection that is refused with this status."""
        self._done()
        self._take = Door._ignore
        if self.transport is not None:
            self._doors.admission.count_refusal(status)
            self._part(answer)

    def _turned_away(self, failure: Failure) -> None:
        if not failure.check(NexusError):
            self._log.failure("A RawSocket connection could not be decided", failure)
        # There is no code for other reasons to try again later.
        self._turn_away(HandshakeError.CONNECTIONS)

    def _turn_away(self, refusal: HandshakeError) -> None:
        self._done()
        self._take = Door._ignore
        if self.transport is not None:
            self._part(refusal.answer)

    def _part(self, answer: bytes) -> None:
        """Send the final answer and close. Under TLS the client has to close as well, and may not."""
        assert self.transport is not None
        self._timer = self._doors.clock.callLater(self._doors.limits.handshake, self._abort)
        self.transport.write(answer)
        self.transport.loseConnection()

    def _late(self) -> None:
        # An incomplete request gets no answer: half of one may be an attempt to hold the connection open.
        self._doors.admission.count_refusal(408)
        self._abort()

    def _abort(self) -> None:
        self._done()
        self._take = Door._ignore
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _done(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _host(self) -> str:
        return getattr(self._peer(), "host", "unix")

    def _peer(self) -> Any:
        assert self.transport is not None
        return self.transport.getPeer()


@implementer(IProtocolNegotiationFactory)
class Doors(Factory):
    """Makes a door for each accepted connection; the factory of every listening endpoint."""

    noisy = False

    def __init__(
        self,
        clock: Any,
        admission: Admission,
        websocket: Doorway,
        make_site: Callable[[Callable[[Request], None]], Site],
        limits: Limits,
        rawsockets: RawSockets,
        streams: EventStreams,
    ) -> None:
        """`make_site` gets a function that takes a connection back if a later request on it asks for an upgrade.

        `limits.handshake` is read for each connection, as a reload may change it."""
        self.clock = clock
        self.admission = admission
        self.websocket = websocket
        self.rawsockets = rawsockets
        self.streams = streams
        self.limits = limits
        self.largest = limits.headers  # bytes of a header block
        self.site = make_site(partial(reopen, self))

    def acceptableProtocols(self) -> list[bytes]:
        """Return the ALPN protocols. Without this, Twisted refuses every client that offers ALPN on a plugin's TLS endpoint."""
        return list(SPOKEN)

    def buildProtocol(self, addr: IAddress | None) -> Door:
        return Door(self)


def take_over(transport: Any, protocol: Any) -> None:
    """Let `protocol` receive the transport's bytes."""
    if isinstance(transport, ProtocolWrapper):  # TLS is a protocol between the socket's transport and ours
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
    protocol.makeConnection(transport)


def reopen(doors: Doors, request: Any) -> None:
    """Take a connection back from Twisted Web if a later request asks for an upgrade or an event stream; pass it to a new door.

    The door gets the header block as it came, and decides as for a first request.
    """
    channel = request.channel
    transport, channel.transport = channel.transport, None
    rest = channel.clearLineBuffer()  # frames that came directly after the request
    channel.forget()
    door = Door(doors)
    transport.unregisterProducer()  # the channel paused the transport while it served the request
    take_over(transport, door)
    if not channel.ended:  # bytes read after the end of the client's half would be taken for the end of both
        transport.resumeProducing()
    door.dataReceived(request.opening.head + rest)
