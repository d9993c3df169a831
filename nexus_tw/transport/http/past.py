"""The HTTP API: past events of a type."""

from __future__ import annotations

import msgspec
from twisted.internet.defer import Deferred

from nexus_tw.interfaces.realm import HistoryPage, HistoryRequest, PastEvent, Verbs
from nexus_tw.model.errors import NexusError, invalid
from nexus_tw.model.policy import Principal
from nexus_tw.model.positions import Position
from nexus_tw.model.times import format_millis
from nexus_tw.transport.http.answers import Answer, encode
from nexus_tw.transport.http.exchange import Exchange
from nexus_tw.transport.http.pages import limit_of
from nexus_tw.transport.http.routes import Routes


class Told(msgspec.Struct, rename="camel", gc=False):
    """A past event, as an answer gives it."""

    event_type: str
    data: msgspec.Raw
    position: str
    timestamp: str


class Reader:
    """A client over HTTP as the recipient of past events: it has no session."""

    number = 0

    def __init__(self, principal: Principal) -> None:
        self.principal = principal


class Past:
    """`/api/v1/history`."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs

    def routes(self) -> Routes:
        """Return the handler of the history."""
        return {"/api/v1/history": {"GET": self._read}}

    async def _read(self, exchange: Exchange) -> Answer:
        principal = await exchange.principal()
        event_type = exchange.parameter("eventType")
        if event_type is None:
            raise invalid("eventType", "is missing")
        since = exchange.parameter("since")
        request = HistoryRequest(event_type, None if since is None else Position.parse(since, "since"), limit_of(exchange))
        read: Deferred[HistoryPage | NexusError] = Deferred()
        self._verbs.history(Reader(principal), principal, request, read.callback, read.callback)
        page = await read
        if isinstance(page, NexusError):
            raise NexusError(page.code, page.message)
        events = [_told(past) for past in page.events]
        return Answer(200, encode({"events": events, "position": page.position.text, "recovered": page.recovered}))


def _told(past: PastEvent) -> Told:
    event = past.event
    assert event.position is not None
    return Told(event.type, msgspec.Raw(event.payload.data), event.position.text, format_millis(past.millis))
