"""HTTP: routes, authentication and answers over Twisted Web. What an address does is in the modules that offer routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cached_property
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final, NamedTuple

import msgspec
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from nexus_tw.auth.carriers import find_token
from nexus_tw.errors import NexusError, misshapen
from nexus_tw.interfaces import Credentials
from nexus_tw.policy import Principal
from nexus_tw.transport import codings
from nexus_tw.transport.admission import Admission, require_member
from nexus_tw.transport.opening import CRLF, Opening, read
from nexus_tw.transport.problems import TYPE, problem, response
from nexus_tw.transport.tls import common_name

JSON: Final = "application/json"
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

    @cached_property
    def body(self) -> bytes:
        """The body, decompressed. Raises `too_large`, `invalid_message` or `codings.Unsupported`."""
        request = self._request
        body: bytes = request.content.read()
        return codings.decode(body, self.opening.listed("content-encoding"), request.largest)

    def parameters(self, name: str) -> list[str]:
        """The query's values of that name."""
        return self.opening.parameters().get(name, [])

    async def principal(self) -> Principal:
        """Who calls; raises `unauthorized`, or `forbidden` for somebody of other realms only."""
        token, _ = find_token(self.headers, self.opening.parameters(), ())
        host = getattr(self._request.getClientAddress(), "host", "unix")
        certificate = common_name(self._request.channel.transport)
        address = self._admission.address(self.headers, host)
        principal = await self._admission.principal(Credentials(token, certificate), address)
        if principal is None:
            raise NexusError("unauthorized", "A valid token is needed")
        require_member(principal)
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

    def decode(self, type_: Any) -> Any:
        """The body as a value of that type; raises `invalid_json` or `invalid_message`."""
        try:
            return msgspec.json.decode(self.body, type=type_)
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
        self._admission = admission
        self._upgrade = upgrade

    def render(self, request: Any) -> int:
        if request.opening.upgrade:
            self._upgrade(request)
            return NOT_DONE_YET
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        answer: Deferred[Answer] = ensureDeferred(self._answer(request))
        answer.addErrback(self._failed)
        answer.addCallback(lambda result: None if gone else self._send(request, result))
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> Answer:
        call = Call(request, self._admission)
        self._admission.require_origin(call.opening)
        origin = call.headers.get("origin")
        try:
            answer = await self._routed(call)
        except NexusError as error:
            answer = _refusal(error)
        if origin is not None:
            # A page may read why it was refused, too.
            answer = answer._replace(headers=(*answer.headers, ("Access-Control-Allow-Origin", origin), ("Vary", "Origin")))
        return answer

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

    def _send(self, request: Request, answer: Answer) -> None:
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
_PREFLIGHT: Final = (
    ("Access-Control-Allow-Headers", "Authorization, Content-Encoding, Content-Type, Idempotency-Key"),
    ("Access-Control-Max-Age", "600"),
)
_WHOLE: Final = ("*", "/")  # of the server as a whole: the form of RFC 9112 section 3.2.4, and where health checks ask


def _problem(error: NexusError, headers: tuple[tuple[str, str], ...] = (), status: int | None = None) -> Answer:
    status, body = problem(error, status)
    return Answer(status, body, TYPE, headers)


def _refusal(error: NexusError) -> Answer:
    if isinstance(error, codings.Unsupported):
        return _problem(error, (("Accept-Encoding", codings.ACCEPTED),), 415)
    return _problem(error, (("WWW-Authenticate", "Bearer"),) if error.code == "unauthorized" else ())


def _allowed(methods: Iterable[str]) -> str:
    """For `Allow`."""
    return ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])


@implementer(IHalfCloseableProtocol)
class Channel(HTTPChannel):
    """A connection on which a request has to be whole within `IDLE` s of the one before, and gets a reason if it is wrong.

    Twisted's parser reads no header block of a client: each is checked as at the door (`nexus_tw.transport.opening`), and
    the parser is told only where the request ends.
    """

    def __init__(self, largest_head: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.totalHeadersSize = self.MAX_LENGTH = largest_head
        self.serving = False  # a request is whole and not yet answered
        self._ended = False  # the client will send nothing more
        self._refused = False
        self._head: list[bytes] = []
        self._size = 0
        self._passed_over = False  # an empty line before the request
        self._last_call: IDelayedCall | None = None  # for a client that does not close, as it has to under TLS

    def dataReceived(self, data: bytes) -> None:
        # Not HTTPChannel's own, which begins the time anew with each byte that comes: one byte a minute would do.
        if not self._refused:  # under TLS bytes may still come
            LineReceiver.dataReceived(self, data)

    def lineReceived(self, line: bytes) -> None:
        if not line and not self._head and not self._passed_over:
            self._passed_over = True
            return
        self._head.append(line)
        self._size += len(line) + len(CRLF)
        if self._size > self.totalHeadersSize:
            self.lineLengthExceeded(line)
        elif not line:
            head, self._head = self._head, []
            self._size, self._passed_over = 0, False
            self._opened(CRLF.join([*head, b""]))

    def _opened(self, head: bytes) -> None:
        try:
            opening = read(head)
        except NexusError as error:
            self.refuse(error)
            return
        request_line, *fields = opening.lines()
        super().lineReceived(request_line)  # type: ignore[no-untyped-call]
        self.requests[-1].opening = opening
        for each in (*fields, b""):
            super().lineReceived(each)  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(NexusError("too_large", "The request's header block is too large"), 431)

    def refuse(self, error: NexusError, status: int | None = None) -> None:
        """Answers in the place of a resource, and ends the connection."""
        channel: Any = self
        self._refused = True
        channel.transport.write(response(error, status))
        channel.loseConnection()

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(NexusError("invalid_message", "The request is not one that HTTP/1.1 knows (RFC 9112)"))

    # --- a client that ends its half of the connection has asked, and waits for the answers

    def requestDone(self, request: Request) -> None:
        self.serving = False
        super().requestDone(request)  # type: ignore[no-untyped-call]
        self._end()

    def loseConnection(self) -> None:
        if self._last_call is None:
            self._last_call = self.callLater(IDLE, self._abort)  # type: ignore[no-untyped-call]
            super().loseConnection()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._last_call is not None and self._last_call.active():
            self._last_call.cancel()
        self._last_call = None
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.forget()

    def forget(self) -> None:
        """Let go of the requests: the one that is being read refers to the channel, by more ways than one."""
        self._transferDecoder = None
        self.requests.clear()

    def readConnectionLost(self) -> None:
        self._ended = True
        self._end()

    def writeConnectionLost(self) -> None:
        """This side does not end its half alone."""

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def _end(self) -> None:
        if self._ended and not self.serving:
            self.loseConnection()


def site(root: Root, reactor: Any, largest_head: int, largest_body: int) -> Site:
    """A Twisted Web site without an access log (it would hold tokens), whose requests are bounded (0: bodies are not)."""

    class BoundedRequest(Request):
        """Stops at the first byte that is too many; Twisted would put the body into a file, however long it is."""

        channel: Any
        opening: Opening
        largest = largest_body
        _size = 0
        _over = False

        def gotLength(self, length: int | None) -> None:
            if length is not None and 0 < largest_body < length:
                self._too_large()
            # A length that was announced is not yet one that was sent: memory is taken as it comes.
            self.content = BytesIO()

        def handleContentChunk(self, data: bytes) -> None:
            self._size += len(data)
            if 0 < largest_body < self._size:
                self._too_large()
            if not self._over:
                super().handleContentChunk(data)  # type: ignore[no-untyped-call]

        def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
            if not self._over:
                self.channel.serving = True
                super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

        def processingFailed(self, reason: Failure) -> Failure:
            # Twisted's own page would be in its name.
            self._log.failure("A request could not be answered", reason)
            self._refuse(NexusError("internal", "Something went wrong in the server"))
            return reason

        def _too_large(self) -> None:
            self._refuse(NexusError("too_large", f"The body is longer than {largest_body} bytes"))

        def _refuse(self, error: NexusError) -> None:
            if not self._over:
                self._over = True
                self.channel.refuse(error)

    # There are no forms here, and no token is looked for in one.
    made: Any = Site(root, BoundedRequest, reactor=reactor, timeout=IDLE, parsePOSTFormSubmission=False)
    made.protocol = lambda: Channel(largest_head)
    return made  # type: ignore[no-any-return]
