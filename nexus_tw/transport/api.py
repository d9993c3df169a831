"""The HTTP API: publishing and broadcasting."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred

from nexus_tw import payloads
from nexus_tw.broker import Broker
from nexus_tw.errors import NexusError, invalid
from nexus_tw.nodes import Nodes
from nexus_tw.policy import Principal
from nexus_tw.settings import Limits
from nexus_tw.times import Timestamps
from nexus_tw.transport.http import Answer, Call, Routes, encode
from nexus_tw.transport.problems import TYPE, problem

BATCH: Final = 1000  # events in one request
KEY_LENGTH: Final = 255
KEYS_KEPT: Final = 10000  # answers remembered by Idempotency-Key
BYTES_KEPT: Final = 16777216  # of those answers
KEY_AGE: Final = 86400.0  # s


class NewEvent(msgspec.Struct, rename="camel", gc=False):
    event_type: str
    data: msgspec.Raw


class NewBroadcast(msgspec.Struct, gc=False):
    data: msgspec.Raw


class PublishedEvent(msgspec.Struct, rename="camel", gc=False):
    event_type: str
    timestamp: str


class _Remembered:
    """A request under way or done, by its Idempotency-Key."""

    __slots__ = ("answer", "request", "waiting", "when")

    def __init__(self, request: bytes, when: float) -> None:
        self.request = request  # a digest, which is small
        self.when = when
        self.answer: Answer | None = None
        self.waiting: list[Deferred[None]] = []


class Idempotency:
    """Requests that are not to take effect twice: the same key of the same subject gets the first one's answer."""

    def __init__(self, now: Callable[[], float], most: int = KEYS_KEPT, most_bytes: int = BYTES_KEPT) -> None:
        self._now = now
        self._most = most
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[str, str], _Remembered] = OrderedDict()
        self._bytes = 0

    async def once(self, subject: str, key: str | None, body: bytes, act: Callable[[], Any]) -> Answer:
        """The answer of `act`, or of the request that came with this key before. Failures are not remembered."""
        if key is None:
            return await act()  # type: ignore[no-any-return]
        if not 0 < len(key) <= KEY_LENGTH:
            raise invalid("Idempotency-Key", f"must have 1 to {KEY_LENGTH} characters")
        self._forget()
        place = (subject, key)
        request = sha256(body).digest()
        while (known := self._kept.get(place)) is not None:
            if known.request != request:
                raise NexusError("limit_exceeded", "Idempotency-Key: was used with another body")
            if known.answer is not None:
                return known.answer
            done: Deferred[None] = Deferred()
            known.waiting.append(done)
            await done
        mine = self._kept[place] = _Remembered(request, self._now())
        try:
            mine.answer = await act()
            self._bytes += len(mine.answer.body)
            return mine.answer
        finally:
            if mine.answer is None:
                del self._kept[place]
            for done in mine.waiting:
                done.callback(None)

    def _forget(self) -> None:
        oldest = self._now() - KEY_AGE
        while self._kept:
            place, known = next(iter(self._kept.items()))
            roomy = len(self._kept) < self._most and self._bytes <= self._most_bytes
            if known.answer is None or (roomy and known.when > oldest):
                break
            self._bytes -= len(known.answer.body)
            del self._kept[place]


class Api:
    """`/api/v1`."""

    def __init__(self, broker: Broker, nodes: Nodes, limits: Limits, now: Callable[[], float]) -> None:
        self._broker = broker
        self._nodes = nodes
        self._limits = limits
        self._now = now
        self._timestamps = Timestamps()
        self._idempotency = Idempotency(now)

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
        key = call.headers.get("idempotency-key")
        return await self._idempotency.once(
            principal.identity, key, call.body, lambda: self._publish_once(principal, call)
        )

    async def _publish_once(self, principal: Principal, call: Call) -> Answer:
        given = call.decode(NewEvent | list[NewEvent])
        events = given if isinstance(given, list) else [given]
        if len(events) > BATCH:
            raise NexusError("limit_exceeded", f"More than {BATCH} events in one request")
        for index, event in enumerate(events):
            at = f"[{index}]." if events is given else ""
            self._bound(event.data, f"{at}data")
            self._broker.check(principal, event.event_type, f"{at}eventType")
            payloads.decode(event.data, f"{at}data", self._limits.depth)
        results = [self._put(event) for event in events]
        # All of them, so that none is still under way when the answer says what became of them.
        outcomes = [await result for result in results]
        for outcome in outcomes:
            if isinstance(outcome, NexusError):
                raise outcome
        return Answer(200, encode({"published": outcomes}))

    def _put(self, event: NewEvent) -> Deferred[PublishedEvent | NexusError]:
        done: Deferred[PublishedEvent | NexusError] = Deferred()

        def ok() -> None:
            done.callback(PublishedEvent(event.event_type, self._timestamps.text(self._now())))

        self._broker.put(event.event_type, bytes(event.data), ok, done.callback)
        return done

    async def _broadcast(self, call: Call) -> Answer:
        await call.admin()
        data = call.decode(NewBroadcast).data
        self._bound(data, "data")
        payloads.decode(data, "data", self._limits.depth)
        reached: Deferred[int] = Deferred()
        self._nodes.broadcast(data, reached.callback, reached.errback)
        return Answer(200, encode({"recipients": await reached}))

    def _bound(self, data: msgspec.Raw, member: str) -> None:
        if 0 < self._limits.message < len(bytes(data)):
            raise NexusError("too_large", f"{member}: longer than {self._limits.message} bytes")
