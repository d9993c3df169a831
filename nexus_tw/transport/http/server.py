"""HTTP: routes, authentication and answers over Twisted Web. What an address does is in the modules that offer routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final, NamedTuple

import msgspec
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import BufferingTLSTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from nexus_tw.auth.carriers import find_token
from nexus_tw.interfaces.plugins import Credentials
from nexus_tw.model.errors import Close, NexusError, misshapen
from nexus_tw.model.policy import Principal
from nexus_tw.transport.admission import Admission, require_member
from nexus_tw.transport.bucket import Bucket
from nexus_tw.transport.connections import Full
from nexus_tw.transport.gate import Gate
from nexus_tw.transport.http import codings
from nexus_tw.transport.http.body import Body
from nexus_tw.transport.http.chunks import Chunks, Malformed
from nexus_tw.transport.http.problems import TYPE, problem, response
from nexus_tw.transport.listening.tls import common_name
from nexus_tw.transport.opening import Opening, Oversized, measure, read
from nexus_tw.transport.rates import GRAIN

JSON: Final = "application/json"
PARTING: Final = 5  # s for a client that is not counted to take its answer
IDLE: Final = 60  # s without a request after which a kept-alive connection is closed, and for a client to close as well

encode: Final = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """What goes back; `body` as it is sent."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Call:
    """A request, as a handler sees it."""

    def __init__(self, request: Any, admission: Admission) -> None:
        self._request = request
        self._admission = admission
        self.opening: Opening = request.opening
        self.headers = self.opening.headers
        self._body: bytes | None = None

    @property
    def address(self) -> str:
        """The client's own address, also behind proxies that are trusted."""
        return self._admission.address(self.headers, getattr(self._request.getClientAddress(), "host", "unix"))

    async def body(self) -> bytes:
        """Take the body and return it, decompressed; for a caller that has been found out.

        Until then nothing of it is kept. Raise `too_large`, `rate_limited`, `invalid_message` or `codings.Unsupported`.
        """
        if self._body is None:
            taken: Body = self._request.body
            body = await taken.take()
            decoded = codings.decode(body, self.opening.listed("content-encoding"), taken.largest)
            if decoded is not body:
                taken.charge(len(decoded))
            self._body = decoded
        return self._body

    def parameters(self, name: str) -> list[str]:
        """The query's values of that name."""
        return self.opening.parameters().get(name, [])

    async def principal(self) -> Principal:
        """Who calls; raises `unauthorized`, or `forbidden` for somebody of other realms only."""
        token, _ = find_token(self.headers, self.opening.parameters(), ())
        channel: Channel = self._request.channel
        certificate = common_name(channel.transport)
        principal = await self._admission.principal(Credentials(token, certificate), self.address)
        if principal is None:
            raise NexusError("unauthorized", "A valid token is needed")
        require_member(principal)
        if not self._request.gone:
            channel.identified(principal)
        return principal

    async def admin(self) -> Principal:
        """An administrator; raises `unauthorized` or `forbidden`."""
        principal = await self.principal()
        if not principal.admin:
            raise NexusError("forbidden", "Only for administrators")
        return principal

    async def metrics(self) -> Principal:
        """Return who may read the metrics; raise `unauthorized` or `forbidden`."""
        principal = await self.principal()
        if not principal.metrics:
            raise NexusError("forbidden", "Not allowed to read the metrics")
        return principal

    async def decode(self, type_: Any) -> Any:
        """Return the body as a value of that type; raise `invalid_json`, `invalid_message` or what `body` raises."""
        body = await self.body()
        try:
            return msgspec.json.decode(body, type=type_)
        except msgspec.ValidationError as error:
            raise misshapen(error, "body") from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise NexusError("invalid_json", "Invalid JSON message") from None


Handler = Callable[[Call], Awaitable[Answer]]
Routes = Mapping[str, Mapping[str, Handler]]
"""Handlers by path and method."""


class Root(Resource):
    """All addresses of the server."""

    isLeaf = True
    _log = Logger()

    def __init__(self, routes: Routes, admission: Admission, upgrade: Callable[[Request], None]) -> None:
        """`upgrade` takes a connection that already served a request and now asks for a WebSocket."""
        Resource.__init__(self)
        self._routes = routes
        self.admission = self._admission = admission
        self._upgrade = upgrade

    def render(self, request: Any) -> int:
        """Serve an upgrade, for which a connection is taken back; every other request is served from its header block on."""
        self._upgrade(request)
        return NOT_DONE_YET

    def opened(self, request: Any) -> None:
        """Serve a request of which the header block is there; its body comes when a handler asks for it."""
        answer: Deferred[Answer] = ensureDeferred(self._answer(request))
        answer.addErrback(self._failed)
        answer.addCallback(lambda result: None if request.gone else self._send(request, result))
        answer.addErrback(request.processingFailed)
        answer.addBoth(request.body.done)

    async def _answer(self, request: Any) -> Answer:
        call = Call(request, self._admission)
        self._admission.require_origin(call.opening)
        origin = call.headers.get("origin")
        try:
            self._counted(request.channel, call)
            answer = await self._routed(call)
        except NexusError as error:
            if isinstance(error, Full):
                self._admission.count_full(error)
                request.channel.hurry()
            answer = _refusal(error)
        if origin is not None:
            # A page may read why it was refused, too.
            answer = answer._replace(headers=(*answer.headers, ("Access-Control-Allow-Origin", origin), ("Vary", "Origin")))
        return answer

    def _counted(self, channel: Channel, call: Call) -> None:
        """Count the connection, as one of the client that asks. Raise `Full` if it is one too many."""
        try:
            self._admission.connections.visit(channel, call.address)
        except Full:
            if call.opening.address not in SPARED:
                raise
            channel.hurry()

    async def _routed(self, call: Call) -> Answer:
        method, address = call.opening.method, call.opening.address
        methods = self._routes.get(address)
        if method == "OPTIONS" and (methods is not None or address in _WHOLE):
            return self._options(call, methods)
        if methods is None:
            raise NexusError("not_found", "There is nothing at this address")
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is not None:
            return await handler(call)
        error = NexusError("method_not_allowed", "This address does not know that method")
        return _problem(error, (("Allow", _allowed(methods)),))

    def _options(self, call: Call, methods: Mapping[str, Handler] | None) -> Answer:
        """What an address knows, or the server as a whole (RFC 9110 section 9.3.7); a page of another origin asks first."""
        if methods is None:
            methods = {method: handler for known in self._routes.values() for method, handler in known.items()}
        headers = (("Allow", _allowed(methods)),)
        if "origin" not in call.headers:
            return Answer(204, headers=headers)
        return Answer(204, headers=(*headers, ("Access-Control-Allow-Methods", ", ".join(methods)), *_PREFLIGHT))

    def _failed(self, failure: Failure) -> Answer:
        error = failure.value
        if isinstance(error, NexusError):
            return _refusal(error)
        self._log.failure("A request could not be answered", failure)
        return _problem(NexusError("internal", "Something went wrong in the server"))

    def _send(self, request: Any, answer: Answer) -> None:
        if request.body.unwelcome:
            # What was announced would be taken for the next request if the client does not send it.
            request.channel.persistent = 0
        if not request.channel.persistent:
            request.setHeader("Connection", "close")
        request.setResponseCode(answer.status, HTTPStatus(answer.status).phrase.encode())
        for name, value in (*_ALWAYS, *answer.headers):
            request.setHeader(name, value)
        if answer.status != 204:
            request.setHeader("Content-Type", answer.content_type)
            request.setHeader("Content-Length", str(len(answer.body)))
        if request.method != b"HEAD":
            request.write(answer.body)
        request.finish()


_ALWAYS: Final = (("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"), ("Server", "nexus"))
RETRY: Final = 1  # s after which there may be room again for what is rate-limited
_BESIDES: Final = {
    "unauthorized": (("WWW-Authenticate", "Bearer"),),
    "rate_limited": (("Retry-After", str(RETRY)),),
}
_PREFLIGHT: Final = (
    ("Access-Control-Allow-Headers", "Authorization, Content-Encoding, Content-Type, Idempotency-Key"),
    ("Access-Control-Max-Age", "600"),
)
SPARED: Final = ("/health/live", "/health/ready", "/metrics")  # answered when connections are too many, each on one of its own
_WHOLE: Final = ("*", "/")  # of the server as a whole: the form of RFC 9112 section 3.2.4, and where health checks ask


def _problem(error: NexusError, headers: tuple[tuple[str, str], ...] = (), status: int | None = None) -> Answer:
    status, body = problem(error, status)
    return Answer(status, body, TYPE, headers)


def _refusal(error: NexusError) -> Answer:
    if isinstance(error, Full):
        return _problem(error, (("Retry-After", str(error.retry_after)),), error.status)
    if isinstance(error, codings.Unsupported):
        return _problem(error, (("Accept-Encoding", codings.ACCEPTED),), 415)
    return _problem(error, _BESIDES.get(error.code, ()))


def _allowed(methods: Iterable[str]) -> str:
    """For `Allow`."""
    return ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])


@implementer(IHalfCloseableProtocol)
class Channel(HTTPChannel):
    """A connection on which a request has to be whole within `IDLE` s of the one before, and gets a reason if it is wrong.

    Twisted's parser reads no header block of a client: each is checked as at the door (`nexus_tw.transport.opening`), and
    the parser is told only where the request ends. Until an answer has left nothing more is parsed, so that one connection
    gets one answer in a turn of the reactor, and a client that does not read gets no second one.
    """

    principal = None  # each request says anew who sends it
    audience = None

    def __init__(self, largest_head: int, admission: Admission) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.totalHeadersSize = self.MAX_LENGTH = largest_head
        self.serving = False  # a request is whole and not yet answered
        self.ended = False  # the client will send nothing more
        self._refused = False
        self.first: Opening | None = None  # of the first request, which the door has read
        self._known = 0  # bytes of a header block that is not all there
        self.address = ""
        self.identity = ""
        self._admission = admission
        self._answered: Any = None  # the request that is answered, until the answer has left and its body has come
        self._hurried = False
        self.account = ""
        self.bodies = admission.bodies
        self._uncounted = self._unshared = 0  # bytes of the connection, and of the subject, that are not counted yet
        self._stream: Bucket | None = None
        self._last_call: IDelayedCall | None = None  # for a client that does not close, as it has to under TLS

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]
        made: Any = Gate(self._networkProducer, self._admission.connections.clock.callLater)
        self.gate: Gate = made
        self._networkProducer = made
        socket: Any = self.transport
        while isinstance(socket, ProtocolWrapper):
            socket = socket.transport
        self._socket: Any = socket

    def dataReceived(self, data: bytes) -> None:
        # Not HTTPChannel's own, which begins the time anew with each byte that comes: one byte a minute would do. Nor
        # LineReceiver's, which moves all that is behind a line for each line.
        if not self._refused:  # under TLS bytes may still come
            self.charge(len(data))
            self._receive(data)

    def setLineMode(self, extra: bytes = b"") -> None:
        # What came behind a request is parsed once that is answered; it was counted when it came.
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
        """Return whether there was a whole header block, and more may be taken behind it."""
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
        """Count bytes that came, or what they became; read on later if they are too many."""
        self._uncounted += size
        self._unshared += size
        if self._uncounted >= GRAIN:
            self._count()

    def identified(self, principal: Principal) -> None:
        """A request turns out to be this one's. Raise `Full` if that makes one connection too many of it."""
        self._admission.connections.identify_visit(self, principal.identity)
        self.account = principal.account
        self._count()

    def _count(self) -> None:
        connections = self._admission.connections
        size, self._uncounted = self._uncounted, 0
        wait = 0.0
        rate = connections.limits.bytes_rate
        if rate:
            now = connections.clock.seconds()
            if self._stream is None or self._stream.rate != rate:
                self._stream = Bucket(rate, now)
            wait = self._stream.spend(size, now)
        if self.account:
            shared, self._unshared = self._unshared, 0
            wait = max(wait, connections.rates.spend(self.account, shared))
        if wait:
            self._admission.metrics.reads_paused += 1
            self.gate.rest(wait)

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
        """Answers in the place of a resource, and ends the connection."""
        channel: Any = self
        self._refused = True
        if self._answered is None:
            channel.transport.write(response(error, status))
        channel.loseConnection()

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(NexusError("invalid_message", "The request is not one that HTTP/1.1 knows (RFC 9112)"))

    # --- a client that ends its half of the connection has asked, and waits for the answers

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
        """Take the next request if the one before is through."""
        request = self._answered
        if request is None:
            return
        if not request.body.whole and (self.persistent or request.body.empty):
            return  # the rest of it is passed over; the time for a request still runs
        if self.persistent:
            transport: Any = self.transport
            if isinstance(transport, BufferingTLSTransport):
                transport._aggregator.flush()
            socket = self._socket
            left = not isinstance(socket, FileDescriptor) or not len(socket.dataBuffer) + socket._tempDataLen
            if not left and socket.producer is not None:
                # Twisted would tell of what has left only if it was more than 64 KiB.
                socket.producerPaused = True
                socket.producer.pauseProducing()
            if self._waitingForTransport:
                self.setTimeout(IDLE)  # type: ignore[no-untyped-call]
                return
        self._answered = None
        self.serving = False
        self._refused = not self.persistent
        super().requestDone(request)  # type: ignore[no-untyped-call]
        if self.transport is not None:  # the next one may have taken the connection to a door
            self._end()

    def hurry(self) -> None:
        """Close behind the next answer, and drop a client that does not take it soon: it is not counted."""
        self._hurried = True
        self.persistent = False

    def close(self, _close: Close) -> None:
        """The server is let go of: close now, or behind the answer to a request that is there."""
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
        """Let go of the requests: the one that is being read refers to the channel, by more ways than one."""
        self._admission.connections.left(self)
        self.gate.end()
        self._socket = None
        self._answered = self._transferDecoder = None
        self.requests.clear()

    def readConnectionLost(self) -> None:
        self.ended = True
        self._end()

    def writeConnectionLost(self) -> None:
        """This side does not end its half alone."""

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def _end(self) -> None:
        if self.ended and not (self.serving and self.requests[-1].body.whole):
            self.loseConnection()


def site(root: Root, reactor: Any, largest_head: int, largest_body: int) -> Site:
    """A Twisted Web site without an access log (it would hold tokens), whose requests are bounded (0: bodies are not)."""

    class Served(Request):
        """A request that is served from its header block on; its body is `body`."""

        channel: Any
        opening: Opening
        body: Body
        gone = False  # the client is

        def gotLength(self, length: int | None) -> None:
            self.content = BytesIO()  # Twisted closes one
            self.body = Body(self.channel, self.opening, length, largest_body)

        def opened(self) -> None:
            if not self.opening.upgrade:
                root.opened(self)

        def handleContentChunk(self, data: bytes) -> None:
            self.body.received(data)

        def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
            if self.opening.upgrade:
                super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]
            else:
                self.body.ended()

        def connectionLost(self, reason: Failure) -> None:
            self.gone = True
            super().connectionLost(reason)  # type: ignore[no-untyped-call]
            self.body.lost()

        def processingFailed(self, reason: Failure) -> Failure | None:
            # Twisted's own page would be in its name.
            self._log.failure("A request could not be answered", reason)
            if not self.gone:
                self.body.channel.refuse(NexusError("internal", "Something went wrong in the server"))
            return None

    # There are no forms here, and no token is looked for in one.
    made: Any = Site(root, Served, reactor=reactor, timeout=IDLE, parsePOSTFormSubmission=False)
    made.protocol = lambda: Channel(largest_head, root.admission)
    return made  # type: ignore[no-any-return]
