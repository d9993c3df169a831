"""Admission: decides who may open a connection, where, and as which principal, before a carrier reads the client's bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, NoReturn

from twisted.internet.interfaces import IReactorTime

from nexus_tw.auth import Authenticators, rule_of
from nexus_tw.auth.carriers import find_token
from nexus_tw.interfaces.plugins import Credentials
from nexus_tw.interfaces.sessions import Dialect
from nexus_tw.model.budgets import Budget
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Http, Limits
from nexus_tw.runtime.client_log import ClientLog
from nexus_tw.runtime.failures import forget_trace
from nexus_tw.transport.connections import Connections, Full
from nexus_tw.transport.http.origin import LOCALHOST, host_allowed, origin_allowed
from nexus_tw.transport.http.proxies import client_address
from nexus_tw.transport.http.strangers import Strangers
from nexus_tw.transport.opening import Opening

REALM: Final = "nexus"  # of all clients with a dialect that does not let them choose
WAMP: Final = "wamp."  # begins the subprotocols of clients that understand nothing else
NOTHING: Final = Credentials(None)


class Way(NamedTuple):
    """The dialects of an address by subprotocol, and the largest message.

    None stands for no subprotocol: it serves clients that offer no subprotocol that we know, unless all they offered is WAMP.
    Without it such clients are refused.
    """

    dialects: Mapping[str | None, Dialect]
    message: int

    def choose(self, offered: Sequence[str]) -> str | None:
        """Return the first supported subprotocol of those offered; raise `NexusError` if there is none."""
        for name in offered:
            if name in self.dialects:
                return name
        if None in self.dialects and not (offered and all(name.startswith(WAMP) for name in offered)):
            return None
        spoken = ", ".join(name for name in self.dialects if name is not None)
        raise NexusError("invalid_message", f"Sec-WebSocket-Protocol: this address speaks {spoken}")


class Admitted(NamedTuple):
    """A connection that may be opened. If it is not `welcome`, it is closed again at once with 1008: its credentials are
    invalid, or missing where they are required."""

    principal: Principal | None
    dialect: Dialect
    subprotocol: str | None
    address: str
    message: int
    welcome: bool = True


class Streamer(NamedTuple):
    """A client that may open an event stream."""

    principal: Principal
    address: str


class Refused(Exception):
    """An upgrade, or an event stream, that is answered by an HTTP response instead."""

    def __init__(self, error: NexusError, status: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(error.message)
        self.error = error
        self.status = status
        self.headers = headers


class Admission:
    """Decides over connections."""

    def __init__(
        self,
        ways: Mapping[str, Way],
        authenticators: Authenticators,
        connections: Connections,
        http: Http,
        metrics: Metrics,
        clock: IReactorTime,
        limits: Limits,
    ) -> None:
        """`ways` by path; `limits.auth` is read for each client, as a reload may change it."""
        self._ways = ways
        self._authenticators = authenticators
        self.connections = self._connections = connections
        self.bodies = Budget("bodies", "bodies", connections.limits, metrics, "rate_limited")
        self._http = http
        self.metrics = self._metrics = metrics
        self._clock = clock
        self._limits = limits
        self._strangers = Strangers(clock)
        self._journal = ClientLog("refusals", clock, metrics)

    async def admit(self, opening: Opening, host: str, certificate: Callable[[], str | None]) -> Admitted:
        """Admit an upgrade from `host` (an IP address, or `unix`), or raise `Refused`."""
        address = self.address(opening.headers, host)
        try:
            way = self._way(opening, address)
            token, offered = find_token(opening.headers, opening.parameters(), opening.subprotocols)
            subprotocol = way.choose(offered)
            dialect = way.dialects[subprotocol]
            principal = await self._who(dialect, Credentials(token, certificate()), address)
        except Full as full:
            self._metrics.connections_refused[full.reason] += 1
            raise Refused(full, full.status, (("Retry-After", str(full.retry_after)),)) from None
        except NexusError as error:
            raise Refused(error, error.kind.http) from None
        welcome = principal is not None or (dialect.introduces and token is None)
        return Admitted(principal, dialect, subprotocol, address, way.message, welcome)

    async def admit_rawsocket(
        self, dialect: Dialect, host: str, certificate: Callable[[], str | None], message: int
    ) -> Admitted:
        """Admit a client of RawSocket, or raise `NexusError`. `message` as in `Way`."""
        address = self.address({}, host)
        try:
            self._connections.arrive()
            self._connections.room(address, None)
            principal = await self._who(dialect, Credentials(None, certificate()), address)
        except Full as full:
            self._metrics.connections_refused[full.reason] += 1
            raise
        return Admitted(principal, dialect, None, address, message, principal is not None or dialect.introduces)

    async def admit_stream(self, opening: Opening, host: str, certificate: Callable[[], str | None]) -> Streamer:
        """Admit a request for an event stream, or raise `Refused`."""
        address = self.address(opening.headers, host)
        try:
            self.require_origin(opening)
            self._connections.arrive()
            self._connections.room(address, None)
            token, _ = find_token(opening.headers, opening.parameters(), ())
            principal = await self.principal(Credentials(token, certificate()), address)
            if principal is None:
                raise NexusError("unauthorized", "A valid token is needed")
            self._connections.room(address, principal.identity)
            require_member(principal)
        except Full as full:
            self._metrics.connections_refused[full.reason] += 1
            raise Refused(full, full.status, (("Retry-After", str(full.retry_after)),)) from None
        except NexusError as error:
            challenge = (("WWW-Authenticate", "Bearer"),) if error.code == "unauthorized" else ()
            raise Refused(error, error.kind.http, challenge) from None
        return Streamer(principal, address)

    async def principal(self, credentials: Credentials, address: str) -> Principal | None:
        """Return the principal of these credentials; None if they are invalid. Raise `timeout` if that takes too long."""
        answer = self._authenticators.authenticate(credentials)
        if not answer.called:
            answer.addTimeout(self._limits.auth, self._clock, _took_too_long)
        try:
            return await answer
        except NexusError as error:
            forget_trace(error)
            self._metrics.connections_refused[error.code] += 1
            self._journal.refused(address, rule_of(error))
            if error.code != "unauthorized":
                raise
            return None

    def address(self, headers: Mapping[str, str], host: str) -> str:
        """Return the client's own address, also behind trusted proxies."""
        return client_address(host, headers.get("x-forwarded-for"), self._http.trusted_proxies)

    def require_origin(self, opening: Opening) -> None:
        """Raise `forbidden` if the request is for another host, or comes from a page of another origin that is not
        listed."""
        host = opening.headers.get("host", LOCALHOST)  # HTTP/1.0 has none, and no browser uses it
        if not host_allowed(host, self._http.hosts):
            self._metrics.connections_refused["host"] += 1
            raise NexusError("forbidden", "This server does not answer to this Host (http.hosts)")
        origin = opening.headers.get("origin")
        if origin is None:
            return
        if "origin" in opening.repeated or not origin_allowed(origin, host, self._http.origins):
            self._metrics.connections_refused["origin"] += 1
            self._strangers.refused(origin, host)
            raise NexusError("forbidden", "This Origin is not allowed here")

    def count_full(self, full: Full) -> None:
        """Count a request that was refused because of too many connections."""
        self._metrics.connections_refused[full.reason] += 1

    def count_refusal(self, status: int) -> None:
        """Count a connection that ended at the door with this HTTP status."""
        self._metrics.refusals[status] += 1

    async def _who(self, dialect: Dialect, credentials: Credentials, address: str) -> Principal | None:
        """Return the principal, if the client is already authenticated and may open one more connection."""
        if dialect.introduces and credentials == NOTHING:
            return None
        principal = await self.principal(credentials, address)
        if principal is not None:
            self._connections.room(address, principal.identity)
            if not dialect.introduces:
                require_member(principal)
        return principal

    def _way(self, opening: Opening, address: str) -> Way:
        way = self._ways.get(opening.path)
        if way is None:
            raise Refused(NexusError("not_found", "There is no WebSocket at this address"), 404)
        if self._connections.draining:
            self._metrics.connections_refused["draining"] += 1
            raise Refused(NexusError("shutting_down", "The server is shutting down"), 503, (("Retry-After", "5"),))
        self.require_origin(opening)
        self._connections.arrive()
        self._connections.room(address, None)
        return way


def require_member(principal: Principal) -> None:
    """Raise `forbidden` for a principal that may not join the realm of the JSON protocol and HTTP."""
    if not principal.may_join(REALM):
        raise NexusError("forbidden", f"Not allowed to join the realm {REALM}")


def _took_too_long(_result: object, _seconds: float) -> NoReturn:
    raise NexusError("timeout", "It took too long to find out who you are")
