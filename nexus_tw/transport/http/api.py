"""The HTTP API: publishing and broadcasting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from nexus_tw.interfaces.realm import Verbs
from nexus_tw.model import payloads
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import Principal
from nexus_tw.model.positions import Position
from nexus_tw.model.settings import Limits
from nexus_tw.model.times import Timestamps
from nexus_tw.runtime.failures import forget_trace
from nexus_tw.runtime.spread import Spread
from nexus_tw.runtime.walltime import wall
from nexus_tw.transport.http.answers import Answer, encode
from nexus_tw.transport.http.exchange import Exchange
from nexus_tw.transport.http.idempotency import Idempotency
from nexus_tw.transport.http.problems import TYPE, problem
from nexus_tw.transport.http.routes import Routes

BATCH: Final = 1000  # events in one request
STEP: Final = 4096  # bytes of an event that count as a step


class NewEvent(msgspec.Struct, rename="camel", gc=False):
    """An event as a request publishes it."""

    event_type: str
    data: msgspec.Raw


class NewBroadcast(msgspec.Struct, gc=False):
    """The body of a request to broadcast."""

    data: msgspec.Raw


class PublishedEvent(msgspec.Struct, rename="camel", gc=False):
    """An event that the bus has accepted."""

    event_type: str
    timestamp: str
    position: str | msgspec.UnsetType = msgspec.UNSET


def _weighed(event: NewEvent) -> Iterator[None]:
    """Yield once for the event, more often for a large one."""
    for _ in range(0, max(1, memoryview(event.data).nbytes), STEP):
        yield


class Api:
    """`/api/v1`. The events of a request are handled in steps, between which other requests are served."""

    def __init__(self, verbs: Verbs, limits: Limits, clock: IReactorTime, metrics: Metrics) -> None:
        self._verbs = verbs
        self._limits = limits
        self._clock = clock
        self._spread = Spread(clock)
        self._timestamps = Timestamps()
        self._idempotency = Idempotency(clock.seconds, metrics, limits)

    def routes(self) -> Routes:
        """Return the handlers of events and broadcasts."""
        return {
            "/api/v1/events": {"GET": self._upgrade_required, "POST": self._publish},
            "/api/v1/broadcast": {"POST": self._broadcast},
        }

    async def _upgrade_required(self, _exchange: Exchange) -> Answer:
        error = NexusError("invalid_message", "This address speaks WebSocket, or Server-Sent Events by Accept")
        status, body = problem(error, 426)
        return Answer(status, body, TYPE, (("Upgrade", "websocket"), ("Connection", "Upgrade")))

    async def _publish(self, exchange: Exchange) -> Answer:
        principal = await exchange.principal()
        body = await exchange.body()
        key = exchange.headers.get("idempotency-key")
        return await self._idempotency.once(principal, key, body, lambda: self._publish_once(principal, exchange))

    async def _publish_once(self, principal: Principal, exchange: Exchange) -> Answer:
        given = await exchange.decode(NewEvent | list[NewEvent])
        events = given if isinstance(given, list) else [given]
        if len(events) > BATCH:
            raise NexusError("limit_exceeded", f"More than {BATCH} events in one request")
        await self._spread_out(self._check(principal, events, events is given))
        results: list[Deferred[PublishedEvent | NexusError]] = []
        await self._spread_out(self._publish_all(principal, events, results))
        # Wait for every event: none is still in progress when the request is answered.
        outcomes = [await result for result in results]
        for outcome in outcomes:
            if isinstance(outcome, NexusError):
                # A new error: the traceback of the outcome would keep a reference to the events.
                raise NexusError(outcome.code, outcome.message)
        return Answer(200, encode({"published": outcomes}))

    async def _spread_out(self, steps: Iterator[None]) -> None:
        """Take these steps, in each turn as many as other requests leave time for. Raise the exception of a step."""
        done: Deferred[Exception | None] = Deferred()

        def work() -> Iterator[None]:
            try:
                yield from steps
            except Exception as error:
                done.callback(error)
            else:
                done.callback(None)

        self._spread.work(work())
        error = await done
        if error is not None:
            forget_trace(error)
            raise error

    def _check(self, principal: Principal, events: list[NewEvent], listed: bool) -> Iterator[None]:
        """Raise for the first event that may not be published."""
        for index, event in enumerate(events):
            at = f"[{index}]." if listed else ""
            self._bound(event.data, f"{at}data")
            self._verbs.check_publish(principal, event.event_type, f"{at}eventType")
            payloads.decode(event.data, f"{at}data", self._limits.depth)
            yield from _weighed(event)

    def _publish_all(
        self, principal: Principal, events: list[NewEvent], results: list[Deferred[PublishedEvent | NexusError]]
    ) -> Iterator[None]:
        for event in events:
            results.append(self._publish_one(principal, event))
            yield from _weighed(event)

    def _publish_one(self, principal: Principal, event: NewEvent) -> Deferred[PublishedEvent | NexusError]:
        done: Deferred[PublishedEvent | NexusError] = Deferred()

        def ok(position: Position | None) -> None:
            at = msgspec.UNSET if position is None else position.text
            done.callback(PublishedEvent(event.event_type, self._timestamps.text(wall(self._clock)), at))

        payload = Payload.of_value(bytes(event.data))
        self._verbs.publish(principal, event.event_type, payload, ok, done.callback)
        return done

    async def _broadcast(self, exchange: Exchange) -> Answer:
        principal = await exchange.admin()
        data = (await exchange.decode(NewBroadcast)).data
        self._bound(data, "data")
        payloads.decode(data, "data", self._limits.depth)
        reached: Deferred[int] = Deferred()
        self._verbs.broadcast(principal, bytes(data), reached.callback, reached.errback)
        return Answer(200, encode({"recipients": await reached}))

    def _bound(self, data: msgspec.Raw, member: str) -> None:
        if 0 < self._limits.message < len(bytes(data)):
            raise NexusError("too_large", f"{member}: longer than {self._limits.message} bytes")
