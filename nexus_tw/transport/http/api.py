"""The HTTP API: publishing and broadcasting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from nexus_tw.model import payloads
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Limits
from nexus_tw.model.times import Timestamps
from nexus_tw.pubsub.cluster import Nodes
from nexus_tw.pubsub.publishing import Publications
from nexus_tw.runtime.failures import forget_trace
from nexus_tw.runtime.spread import Spread
from nexus_tw.transport.http.idempotency import Idempotency
from nexus_tw.transport.http.problems import TYPE, problem
from nexus_tw.transport.http.server import Answer, Call, Routes, encode

BATCH: Final = 1000  # events in one request
STEP: Final = 4096  # bytes of an event that count as a step


class NewEvent(msgspec.Struct, rename="camel", gc=False):
    event_type: str
    data: msgspec.Raw


class NewBroadcast(msgspec.Struct, gc=False):
    data: msgspec.Raw


class PublishedEvent(msgspec.Struct, rename="camel", gc=False):
    event_type: str
    timestamp: str










def _weighed(event: NewEvent) -> Iterator[None]:
    """Count the event as a step, a large one as several."""
    for _ in range(0, max(1, memoryview(event.data).nbytes), STEP):
        yield


class Api:
    """`/api/v1`. The events of a request are handled in steps, between which others have their turn."""

    def __init__(
        self, publications: Publications, nodes: Nodes, limits: Limits, clock: IReactorTime, metrics: Metrics
    ) -> None:
        self._publications = publications
        self._nodes = nodes
        self._limits = limits
        self._now = now = clock.seconds
        self._spread = Spread(clock)
        self._timestamps = Timestamps()
        self._idempotency = Idempotency(now, metrics, limits)

    def routes(self) -> Routes:
        return {
            "/api/v1/events": {"GET": self._upgrade_required, "POST": self._publish},
            "/api/v1/broadcast": {"POST": self._broadcast},
        }

    async def _upgrade_required(self, _call: Call) -> Answer:
        status, body = problem(NexusError("invalid_message", "This address speaks WebSocket"), 426)
        return Answer(status, body, TYPE, (("Upgrade", "websocket"), ("Connection", "Upgrade")))

    async def _publish(self, call: Call) -> Answer:
        principal = await call.principal()
        body = await call.body()
        key = call.headers.get("idempotency-key")
        return await self._idempotency.once(principal, key, body, lambda: self._publish_once(principal, call))

    async def _publish_once(self, principal: Principal, call: Call) -> Answer:
        given = await call.decode(NewEvent | list[NewEvent])
        events = given if isinstance(given, list) else [given]
        if len(events) > BATCH:
            raise NexusError("limit_exceeded", f"More than {BATCH} events in one request")
        for index, event in enumerate(events):
            at = f"[{index}]." if events is given else ""
            self._bound(event.data, f"{at}data")
            self._publications.check(principal, event.event_type, f"{at}eventType")
            payloads.decode(event.data, f"{at}data", self._limits.depth)
        results = [self._put(event) for event in events]
        # All of them, so that none is still under way when the answer says what became of them.
        outcomes = [await result for result in results]
        for outcome in outcomes:
            if isinstance(outcome, NexusError):
                # Another one, as the traceback of the outcome would lead to what refers to it, which keeps the events.
                raise NexusError(outcome.code, outcome.message)
        return Answer(200, encode({"published": outcomes}))

    async def _spread_out(self, steps: Iterator[None]) -> None:
        """Take these steps, as many in a turn as there is room for beside those of other requests. Raise what one raises."""
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
        """Raise what is wrong with the first event of which something is."""
        for index, event in enumerate(events):
            at = f"[{index}]." if listed else ""
            self._bound(event.data, f"{at}data")
            self._publications.check(principal, event.event_type, f"{at}eventType")
            payloads.decode(event.data, f"{at}data", self._limits.depth)
            yield from _weighed(event)

    def _put_all(self, events: list[NewEvent], results: list[Deferred[PublishedEvent | NexusError]]) -> Iterator[None]:
        for event in events:
            results.append(self._put(event))
            yield from _weighed(event)

    def _put(self, event: NewEvent) -> Deferred[PublishedEvent | NexusError]:
        done: Deferred[PublishedEvent | NexusError] = Deferred()

        def ok() -> None:
            done.callback(PublishedEvent(event.event_type, self._timestamps.text(self._now())))

        self._publications.put(event.event_type, bytes(event.data), ok, done.callback)
        return done

    async def _broadcast(self, call: Call) -> Answer:
        await call.admin()
        data = (await call.decode(NewBroadcast)).data
        self._bound(data, "data")
        payloads.decode(data, "data", self._limits.depth)
        reached: Deferred[int] = Deferred()
        self._nodes.broadcast(data, reached.callback, reached.errback)
        return Answer(200, encode({"recipients": await reached}))

    def _bound(self, data: msgspec.Raw, member: str) -> None:
        if 0 < self._limits.message < len(bytes(data)):
            raise NexusError("too_large", f"{member}: longer than {self._limits.message} bytes")
