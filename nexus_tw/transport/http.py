"""HTTP: routes, authentication and answers over Twisted Web. What an address does is in the modules that offer routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final, NamedTuple

import msgspec
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from nexus_tw.auth.carriers import find_token
from nexus_tw.errors import NexusError, misshapen
from nexus_tw.interfaces import Credentials
from nexus_tw.policy import Principal
from nexus_tw.transport.admission import Admission, require_member
from nexus_tw.transport.opening import names_websocket, origin_form
from nexus_tw.transport.problems import TYPE, problem, response
from nexus_tw.transport.tls import common_name

JSON: Final = "application/json"
LENGTH_DIGITS: Final = 20  # of a `Content-Length`; no body is that long
IDLE: Final = 60  # s without a request after which a kept-alive connection is closed

encode: Final = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """What goes back; `body` as it is sent."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Call:
    """A request, as a handler sees it."""

    def __init__(self, request: Request, admission: Admission) -> None:
        self._request = request
        self._admission = admission
        self.headers = _headers(request)
        self.body: bytes = request.content.read() if request.content is not None else b""

    def parameters(self, name: str) -> list[str]:
        """The query's values of that name."""
        return [value.decode("utf-8", "replace") for value in self._request.args.get(name.encode(), ())]

    async def principal(self) -> Principal:
        """Who calls; raises `unauthorized`, or `forbidden` for somebody of other realms only."""
        token, _ = find_token(self.headers, {"token": self.parameters("token")}, ())
        principal = await self._admission.principal(Credentials(token, common_name(self._request.channel.transport)))
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

    def render(self, request: Request) -> int:
        if request.method == b"GET" and request.clientproto == b"HTTP/1.1" and _asks_for_websocket(request):
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
        if not self._admission.origin_allowed(call.headers):
            raise NexusError("forbidden", "This Origin is not allowed here")
        origin = call.headers.get("origin")
        method = request.method.decode("ascii", "replace")
        try:
            answer = await self._routed(call, method, request.path.decode("ascii", "replace"))
        except NexusError as error:
            answer = _refusal(error)
        if origin is not None:
            # A page may read why it was refused, too.
            answer = answer._replace(headers=(*answer.headers, ("Access-Control-Allow-Origin", origin), ("Vary", "Origin")))
        return answer

    async def _routed(self, call: Call, method: str, path: str) -> Answer:
        methods = self._routes.get(origin_form(path))
        if methods is None:
            raise NexusError("not_found", "There is nothing at this address")
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is not None:
            return await handler(call)
        if method == "OPTIONS" and "origin" in call.headers:
            return Answer(204, headers=(("Access-Control-Allow-Methods", ", ".join(methods)), *_PREFLIGHT))
        error = NexusError("method_not_allowed", "This address does not know that method")
        return _problem(error, (("Allow", ", ".join([*methods, "HEAD"] if "GET" in methods else methods)),))

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
    ("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key"),
    ("Access-Control-Max-Age", "600"),
)


def _problem(error: NexusError, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    status, body = problem(error)
    return Answer(status, body, TYPE, headers)


def _refusal(error: NexusError) -> Answer:
    return _problem(error, (("WWW-Authenticate", "Bearer"),) if error.code == "unauthorized" else ())


def _asks_for_websocket(request: Request) -> bool:
    return names_websocket(",".join(request.requestHeaders.getRawHeaders("Upgrade", ())))


def _headers(request: Request) -> dict[str, str]:
    return {
        name.decode("ascii", "replace").lower(): b",".join(values).decode("latin-1")
        for name, values in request.requestHeaders.getAllRawHeaders()
    }


class BoundedChannel(HTTPChannel):
    """A connection on which a request has to be whole within `IDLE` s of the one before, and gets a reason if it is wrong."""

    def dataReceived(self, data: bytes) -> None:
        # Not HTTPChannel's own, which begins the time anew with each byte that comes: one byte a minute would do.
        LineReceiver.dataReceived(self, data)

    def headerReceived(self, line: bytes) -> bool:
        # Twisted passes over the coding `identity`, which RFC 9112 does not know any more and a front may read in another
        # way, and it fails over a length of more digits than Python makes a number of.
        name, _, value = line.lower().partition(b":")
        value = value.strip()
        if (name == b"transfer-encoding" and value != b"chunked") or (name == b"content-length" and len(value) > LENGTH_DIGITS):
            self._respondToBadRequestAndDisconnect()
            return False
        return bool(super().headerReceived(line))  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:
        self._respondToBadRequestAndDisconnect()

    def _respondToBadRequestAndDisconnect(self) -> None:
        channel: Any = self
        error = NexusError("invalid_message", "The request is not one that HTTP/1.1 knows (RFC 9112), or its header too large")
        channel.transport.write(response(error))
        channel.loseConnection()


def site(root: Root, reactor: Any, largest_head: int, largest_body: int) -> Site:
    """A Twisted Web site without an access log (it would hold tokens), whose requests are bounded (0: bodies are not)."""

    class BoundedRequest(Request):
        """Stops at the first byte that is too many; Twisted would put the body into a file, however long it is."""

        _size = 0
        _over = False

        def gotLength(self, length: int | None) -> None:
            if length is not None and 0 < largest_body < length:
                self._refuse()
            # A length that was announced is not yet one that was sent: memory is taken as it comes.
            self.content = BytesIO()

        def handleContentChunk(self, data: bytes) -> None:
            self._size += len(data)
            if 0 < largest_body < self._size:
                self._refuse()
            if not self._over:
                super().handleContentChunk(data)  # type: ignore[no-untyped-call]

        def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
            if not self._over:
                super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

        def _refuse(self) -> None:
            if self._over:
                return
            self._over = True
            channel: Any = self.channel
            channel.transport.write(response(NexusError("too_large", f"The body is longer than {largest_body} bytes")))
            channel.loseConnection()

    def channel() -> BoundedChannel:
        made = BoundedChannel()  # type: ignore[no-untyped-call]
        made.totalHeadersSize = made.MAX_LENGTH = largest_head
        return made

    # There are no forms here, and no token is looked for in one.
    made: Any = Site(root, BoundedRequest, reactor=reactor, timeout=IDLE, parsePOSTFormSubmission=False)
    made.protocol = channel
    return made  # type: ignore[no-any-return]
