"""A connection for HTTP: header blocks, bodies and answers in order, over Twisted's parser."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import BufferingTLSTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.server import Request
from zope.interface import implementer

from nexus_tw.model.errors import Close, NexusError
from nexus_tw.model.policy import Principal
from nexus_tw.transport.admission import Admission
from nexus_tw.transport.gate import Gate
from nexus_tw.transport.http.chunks import Chunks, Malformed
from nexus_tw.transport.http.meter import Meter
from nexus_tw.transport.http.problems import response
from nexus_tw.transport.opening import Opening, Oversized, measure, read

PARTING: Final = 5  # s for a client over the connection limit to read its answer
IDLE: Final = 60  # s without a request until a connection is closed, and for a client to close as well


@implementer(IHalfCloseableProtocol)
class Channel(HTTPChannel):
    """A connection for HTTP. Each request must be complete within `IDLE` s of the one before; a malformed one is answered.

    Header blocks are checked as at the door (`nexus_tw.transport.opening`); Twisted's parser gets checked ones only, to find
    the end of each request. The next request is parsed once the answer to the previous one has left, so that a connection
    gets one answer in a turn of the reactor, and a client that does not read gets no second one.
    """

    principal = None  # authenticated anew for each request
    audience = None

    def __init__(self, largest_head: int, admission: Admission) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.totalHeadersSize = self.MAX_LENGTH = largest_head
        self.serving = False  # a request is complete and not yet answered
        self.ended = False  # the client will send nothing more
        self._refused = False
        self.first: Opening | None = None  # of the first request, read by the door
        self._known = 0  # bytes of an incomplete header block that were searched for its end
        self.address = ""
        self.identity = ""
        self._admission = admission
        self._answered: Any = None  # the answered request, until the answer has left and its body has arrived
        self._hurried = False
        self.account = ""
        self.bodies = admission.bodies
        self._last_call: IDelayedCall | None = None  # aborts if the client does not close, as it must under TLS

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]
        connections = self._admission.connections
        made: Any = Gate(self._networkProducer, connections.clock.callLater)
        self.gate: Gate = made
        self.meter = Meter(connections, self._admission.metrics, made)
        self._networkProducer = made
        socket: Any = self.transport
        while isinstance(socket, ProtocolWrapper):
            socket = socket.transport
        self._socket: Any = socket

    def dataReceived(self, data: bytes) -> None:
        # HTTPChannel restarts the timeout with each byte, so that one byte a minute would keep a connection open, and
        # LineReceiver copies the rest of the buffer for each line.
        if not self._refused:  # under TLS bytes may still arrive
            self.charge(len(data))
            self._receive(data)

    def setLineMode(self, extra: bytes = b"") -> None:
        # Bytes after a request are parsed once that is answered; they were counted on arrival.
        self.line_mode = 1
        if extra:
            self._receive(extra)

    def _receive(self, data: bytes) -> None:
        self._buffer += data
        if self._busyReceiving:
            return
        self._busyReceiving = True
        try:
            while self._buffer and not self._refused:
                if self.line_mode:
                    if not self._take_head():
                        break
                else:
                    body, self._buffer = self._buffer, b""
                    self.rawDataReceived(body)
        finally:
            self._busyReceiving = False

    def _take_head(self) -> bool:
        """Take a header block. Return whether it was complete and more may be parsed after it."""
        try:
            begin, end = measure(self._buffer, self._known, self.totalHeadersSize)
        except Oversized as error:
            self.refuse(error, error.status)
            return False
        if not end:
            self._known = len(self._buffer)
            return False
        head, self._buffer = self._buffer[begin:end], self._buffer[end:]
        self._known = 0
        self._opened(head)
        transport: Any = self.transport
        return transport is not None and not transport.disconnecting

    def rawDataReceived(self, data: bytes) -> None:
        if self._refused:
            return
        if self._handlingRequest:
            self._dataBuffer.append(data)
            self.gate.pauseProducing()
        else:
            try:
                super().rawDataReceived(data)
            except Malformed:
                self._respondToBadRequestAndDisconnect()

    def charge(self, size: int) -> None:
        """Count received bytes, or bytes after decompression. Stop reading for a while if they exceed the rate."""
        self.meter.charge(size, self.account)

    def identified(self, principal: Principal) -> None:
        """Count the connection for the client of a request. Raise `Full` if that client has too many."""
        self._admission.connections.identify_visit(self, principal.identity)
        self.account = principal.account
        self.meter.count(self.account)

    def _opened(self, head: bytes) -> None:
        first, self.first = self.first, None
        try:
            opening = first if first is not None and first.head == head else read(head)
        except NexusError as error:
            self.refuse(error)
            return
        request_line, *fields = opening.lines()
        self.lineReceived(request_line)  # type: ignore[no-untyped-call]
        self.requests[-1].opening = opening
        for each in (*fields, b""):
            self.lineReceived(each)  # type: ignore[no-untyped-call]

    def allHeadersReceived(self) -> None:
        request: Any = self.requests[-1]
        request.parseCookies()
        self.persistent = not self._hurried and self.checkPersistence(request, self._version)  # type: ignore[no-untyped-call]
        request.method, request.clientproto = self._command, self._version
        request.gotLength(self.length)
        if self.length is None:
            self._transferDecoder = Chunks(request.body.received, self._finishRequestBody)
        self.serving = True
        request.opened()

    def refuse(self, error: NexusError, status: int | None = None) -> None:
        """Answer in place of a resource, and close the connection."""
        channel: Any = self
        self._refused = True
        if self._answered is None:
            channel.transport.write(response(error, status))
        channel.loseConnection()

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(NexusError("invalid_message", "The request is not one that HTTP/1.1 knows (RFC 9112)"))

    # --- a client that closed its half of the connection still waits for the answers

    def requestDone(self, request: Request) -> None:
        self._answered = request
        self._go_on()

    def allContentReceived(self) -> None:
        if not self._refused:
            super().allContentReceived()  # type: ignore[no-untyped-call]
            self._go_on()

    def pauseProducing(self) -> None:
        self._waitingForTransport = True
        if not self._handlingRequest:
            self.gate.pauseProducing()

    def resumeProducing(self) -> None:
        super().resumeProducing()  # type: ignore[no-untyped-call]
        self._go_on()

    def _go_on(self) -> None:
        """Take the next request if the previous one is finished."""
        request = self._answered
        if request is None:
            return
        if not request.body.whole and (self.persistent or request.body.empty):
            return  # the rest of its body is skipped; the timeout of a request still runs
        if self.persistent:
            transport: Any = self.transport
            if isinstance(transport, BufferingTLSTransport):
                transport._aggregator.flush()
            socket = self._socket
            left = not isinstance(socket, FileDescriptor) or not len(socket.dataBuffer) + socket._tempDataLen
            if not left and socket.producer is not None:
                # Twisted would report an empty buffer only if it had held more than 64 KiB.
                socket.producerPaused = True
                socket.producer.pauseProducing()
            if self._waitingForTransport:
                self.setTimeout(IDLE)  # type: ignore[no-untyped-call]
                return
        self._answered = None
        self.serving = False
        self._refused = not self.persistent
        super().requestDone(request)  # type: ignore[no-untyped-call]
        if self.transport is not None:  # the next request may have handed the connection to a door
            self._end()

    def hurry(self) -> None:
        """Close after the next answer, and abort soon if the client does not read it: the connection is not counted."""
        self._hurried = True
        self.persistent = False

    def close(self, _close: Close) -> None:
        """Close now, or after the answer to a request in progress."""
        self.hurry()
        if not self.serving:
            self.loseConnection()

    def drop(self) -> None:
        self._abort()

    def loseConnection(self) -> None:
        if self._last_call is None:
            self._last_call = self.callLater(PARTING if self._hurried else IDLE, self._abort)  # type: ignore[no-untyped-call]
            super().loseConnection()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._last_call is not None and self._last_call.active():
            self._last_call.cancel()
        self._last_call = None
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.forget()

    def forget(self) -> None:
        """Drop the requests: the one that is being read refers to the channel in more than one way."""
        self._admission.connections.left(self)
        self.gate.end()
        self._socket = None
        self._answered = self._transferDecoder = None
        self.requests.clear()

    def readConnectionLost(self) -> None:
        self.ended = True
        self._end()

    def writeConnectionLost(self) -> None:
        """The server never closes its half alone."""

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def _end(self) -> None:
        if self.ended and not (self.serving and self.requests[-1].body.whole):
            self.loseConnection()
