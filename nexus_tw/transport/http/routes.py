"""Routes: which handler serves a request, and how its answer is sent. The handlers are in the modules that offer routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from nexus_tw.model.errors import NexusError
from nexus_tw.runtime.failures import forget_trace
from nexus_tw.transport.admission import Admission
from nexus_tw.transport.connections import Full
from nexus_tw.transport.http.answers import Answer, problem_answer, refusal
from nexus_tw.transport.http.channel import Channel
from nexus_tw.transport.http.exchange import Exchange

SPARED: Final = ("/health/live", "/health/ready", "/metrics")  # served, one request each, also on connections over the limit

_ALWAYS: Final = (("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"), ("Server", "nexus"))
_PREFLIGHT: Final = (
    ("Access-Control-Allow-Headers", "Authorization, Content-Encoding, Content-Type, Idempotency-Key, Last-Event-ID"),
    ("Access-Control-Max-Age", "600"),
)
_WHOLE: Final = ("*", "/")  # the whole server: the form of RFC 9112 section 3.2.4, and the address that health checks use

Handler = Callable[[Exchange], Awaitable[Answer]]
Routes = Mapping[str, Mapping[str, Handler]]
"""Handlers by path and method. A path that ends with `MEMBER` stands for those with any one segment in its place, which the
handler reads as `Exchange.member`."""

MEMBER: Final = "/*"


class Root(Resource):
    """Every address of the server: finds the handler of a request and sends its answer."""

    isLeaf = True
    _log = Logger()

    def __init__(self, routes: Routes, admission: Admission, upgrade: Callable[[Request], None]) -> None:
        """`upgrade` takes a connection that already served a request and now asks for a WebSocket or an event stream."""
        Resource.__init__(self)
        self._routes = routes
        self.admission = self._admission = admission
        self._upgrade = upgrade

    def render(self, request: Any) -> int:
        """Take the connection back for an upgrade or an event stream. Every other request is served by `opened`."""
        self._upgrade(request)
        return NOT_DONE_YET

    def opened(self, request: Any) -> None:
        """Serve a request whose header block is complete; its body is read once a handler asks for it."""
        answer: Deferred[Answer] = ensureDeferred(self._answer(request))
        answer.addErrback(self._failed)
        answer.addCallback(lambda result: None if request.gone else self._send(request, result))
        answer.addErrback(request.processingFailed)
        answer.addBoth(request.body.done)

    async def _answer(self, request: Any) -> Answer:
        exchange = Exchange(request, self._admission)
        self._admission.require_origin(exchange.opening)
        origin = exchange.headers.get("origin")
        try:
            self._counted(request.channel, exchange)
            answer = await self._routed(exchange)
        except NexusError as error:
            if isinstance(error, Full):
                self._admission.count_full(error)
                request.channel.hurry()
            answer = refusal(error)
            forget_trace(error)
        if origin is not None:
            # A page may read why it was refused, too.
            answer = answer._replace(headers=(*answer.headers, ("Access-Control-Allow-Origin", origin), ("Vary", "Origin")))
        return answer

    def _counted(self, channel: Channel, exchange: Exchange) -> None:
        """Count the connection for the client. Raise `Full` if it has too many."""
        try:
            self._admission.connections.visit(channel, exchange.address)
        except Full:
            if exchange.opening.address not in SPARED:
                raise
            channel.hurry()

    async def _routed(self, exchange: Exchange) -> Answer:
        method, address = exchange.opening.method, exchange.opening.address
        methods = self._routes.get(address)
        if methods is None:
            methods = self._routes.get(exchange.collection + MEMBER) if exchange.member else None
        if method == "OPTIONS" and (methods is not None or address in _WHOLE):
            return self._options(exchange, methods)
        if methods is None:
            raise NexusError("not_found", "There is nothing at this address")
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is not None:
            return await handler(exchange)
        error = NexusError("method_not_allowed", "This address does not know that method")
        return problem_answer(error, (("Allow", _allowed(methods)),))

    def _options(self, exchange: Exchange, methods: Mapping[str, Handler] | None) -> Answer:
        """Return the methods of an address, or of the whole server (RFC 9110 section 9.3.7), and answer preflight requests."""
        if methods is None:
            methods = {method: handler for known in self._routes.values() for method, handler in known.items()}
        headers = (("Allow", _allowed(methods)),)
        if "origin" not in exchange.headers:
            return Answer(204, headers=headers)
        return Answer(204, headers=(*headers, ("Access-Control-Allow-Methods", ", ".join(methods)), *_PREFLIGHT))

    def _failed(self, failure: Failure) -> Answer:
        error = failure.value
        if isinstance(error, NexusError):
            return refusal(error)
        self._log.failure("A request could not be answered", failure)
        return problem_answer(NexusError("internal", "Something went wrong in the server"))

    def _send(self, request: Any, answer: Answer) -> None:
        if request.body.unwelcome:
            # If the client does not send the announced body, the server would read the next request as that body.
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


def _allowed(methods: Iterable[str]) -> str:
    """Return the value of `Allow`."""
    return ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])
