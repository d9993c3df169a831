"""Admission: who may open a WebSocket, where, and as whom; decided before Autobahn sees a byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

from twisted.internet.interfaces import IReactorTime

from nexus_tw.auth import Authenticators
from nexus_tw.auth.carriers import find_token
from nexus_tw.auth.origin import origin_allowed
from nexus_tw.auth.proxies import client_address
from nexus_tw.errors import NexusError
from nexus_tw.interfaces import Credentials
from nexus_tw.metrics import Metrics
from nexus_tw.policy import Principal
from nexus_tw.sessions.verbs import Dialect
from nexus_tw.settings import Http
from nexus_tw.transport.connections import Connections, Full
from nexus_tw.transport.opening import Opening


class Way(NamedTuple):
    """What is spoken at an address: dialects by subprotocol (None: none was offered that we know), and the largest message."""

    dialects: Mapping[str | None, Dialect]
    message: int


class Admitted(NamedTuple):
    """An upgrade that may go on. Without a principal it is opened and closed at once with 1008, as the contract asks."""

    principal: Principal | None
    dialect: Dialect
    subprotocol: str | None
    address: str
    message: int


class Refused(Exception):
    """An upgrade that gets an HTTP answer instead."""

    def __init__(self, error: NexusError, status: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(error.message)
        self.error = error
        self.status = status
        self.headers = headers


class Admission:
    """Decides over upgrades."""

    def __init__(
        self,
        ways: Mapping[str, Way],
        authenticators: Authenticators,
        connections: Connections,
        http: Http,
        metrics: Metrics,
        clock: IReactorTime,
        patience: float,
    ) -> None:
        """`ways` by path; `patience` in s for authentication."""
        self._ways = ways
        self._authenticators = authenticators
        self._connections = connections
        self._http = http
        self._metrics = metrics
        self._clock = clock
        self._patience = patience

    async def admit(self, opening: Opening, host: str, certificate: Callable[[], str | None]) -> Admitted:
        """Admits an upgrade from `host` (an IP address, or `unix`), or raises `Refused`."""
        address = self.address(opening.headers, host)
        try:
            way = self._way(opening, address)
            token, offered = find_token(opening.headers, opening.parameters(), opening.subprotocols)
            principal = await self.principal(Credentials(token, certificate()))
            if principal is not None:
                self._connections.room(address, principal.subject)
        except Full as full:
            self._metrics.connections_refused[full.reason] += 1
            raise Refused(full, full.status, (("Retry-After", str(full.retry_after)),)) from None
        except NexusError as error:
            raise Refused(error, error.kind.http) from None
        subprotocol = next((name for name in offered if name in way.dialects), None)
        return Admitted(principal, way.dialects[subprotocol], subprotocol, address, way.message)

    async def principal(self, credentials: Credentials) -> Principal | None:
        """Who this is; None for nobody we know. Raises `timeout` where it takes too long to find out."""
        answer = self._authenticators.authenticate(credentials)
        if not answer.called:
            answer.addTimeout(self._patience, self._clock, _took_too_long)
        try:
            return await answer
        except NexusError as error:
            self._metrics.connections_refused[error.code] += 1
            if error.code != "unauthorized":
                raise
            return None

    def address(self, headers: Mapping[str, str], host: str) -> str:
        """The client's own address, also behind proxies that are trusted."""
        return client_address(host, headers.get("x-forwarded-for"), self._http.trusted_proxies)

    def origin_allowed(self, headers: Mapping[str, str]) -> bool:
        origin = headers.get("origin")
        return origin is None or origin_allowed(origin, headers.get("host", ""), self._http.origins)

    def count_refusal(self, status: int) -> None:
        """A connection ended at the door with this HTTP status."""
        self._metrics.refusals[status] += 1

    def _way(self, opening: Opening, address: str) -> Way:
        way = self._ways.get(opening.path)
        if way is None:
            raise Refused(NexusError("not_found", "Nothing speaks WebSocket at this address"), 404)
        if self._connections.draining:
            self._metrics.connections_refused["draining"] += 1
            raise Refused(NexusError("shutting_down", "The server is shutting down"), 503, (("Retry-After", "5"),))
        if "origin" in opening.repeated or not self.origin_allowed(opening.headers):
            self._metrics.connections_refused["origin"] += 1
            raise Refused(NexusError("forbidden", "This Origin is not allowed here"), 403)
        self._connections.arrive()
        self._connections.room(address, None)
        return way


def _took_too_long(_result: object, _seconds: float) -> NoReturn:
    raise NexusError("timeout", "It took too long to find out who you are")
