"""The HTTP API: publishing and broadcasting."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from nexus_tw import payloads
from nexus_tw.broker import Broker
from nexus_tw.errors import NexusError, invalid
from nexus_tw.failures import forget_trace
from nexus_tw.metrics import Metrics
from nexus_tw.nodes import Nodes
from nexus_tw.policy import Principal
from nexus_tw.pots import Pot
from nexus_tw.settings import Limits
from nexus_tw.spread import Spread
from nexus_tw.times import Timestamps
from nexus_tw.transport.http import Answer, Call, Routes, encode
from nexus_tw.transport.problems import TYPE, problem

BATCH: Final = 1000  # events in one request
STEP: Final = 4096  # bytes of an event that count as a step
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

    __slots__ = ("account", "answer", "request", "size", "waiting", "when")

    def __init__(self, account: str, request: bytes, when: float) -> None:
        self.account = account
        self.request = request  # a digest, which is small
        self.when = when
        self.size = 0
        self.answer: Answer | None = None
        self.waiting: list[Deferred[None]] = []


Place = tuple[str, str]  # whose key, by identity, and the key


class Idempotency:
    """Requests that are not to take effect twice: the same key of the same identity gets the first one's answer.

    A subject has a share of the keys and of the bytes of their answers. If it needs more, its own oldest are forgotten.
    """

    def __init__(
        self,
        now: Callable[[], float],
        metrics: Metrics,
        limits: Limits,
        most: int = KEYS_KEPT,
        most_bytes: int = BYTES_KEPT,
    ) -> None:
        self._now = now
        self._keys = Pot("idempotency_keys", most, limits, metrics)
        self._answers = Pot("idempotency_bytes", most_bytes, limits, metrics)
        self._kept: OrderedDict[Place, _Remembered] = OrderedDict()
        self._none: OrderedDict[Place, _Remembered] = OrderedDict()
        self._own: dict[str, OrderedDict[Place, _Remembered]] = {}  # the same by account

    def __len__(self) -> int:
        return len(self._kept)

    async def once(self, principal: Principal, key: str | None, body: bytes, act: Callable[[], Any]) -> Answer:
        """Return the answer of `act`, or of the request that came with this key before. Failures are not remembered. Raise
        `limit_exceeded` if too many of the subject are under way."""
        if key is None:
            return await act()  # type: ignore[no-any-return]
        if not 0 < len(key) <= KEY_LENGTH:
            raise invalid("Idempotency-Key", f"must have 1 to {KEY_LENGTH} characters")
        self._expire()
        place = (principal.identity, key)
        request = sha256(body).digest()
        while (known := self._kept.get(place)) is not None:
            if known.request != request:
                raise NexusError("limit_exceeded", "Idempotency-Key: was used with another body")
            if known.answer is not None:
                return known.answer
            done: Deferred[None] = Deferred()
            known.waiting.append(done)
            await done
        account = principal.account
        self._take(self._keys, account, 1)
        mine = self._kept[place] = _Remembered(account, request, self._now())
        self._own.setdefault(account, OrderedDict())[place] = mine
        try:
            answer: Answer = await act()
            try:
                self._take(self._answers, account, len(answer.body))
            except NexusError:
                return answer  # it took effect, and is the only thing that could not be remembered
            mine.answer, mine.size = answer, len(answer.body)
            return answer
        finally:
            if mine.answer is None:
                self._drop(place, mine)
            for done in mine.waiting:
                done.callback(None)

    def _take(self, pot: Pot, account: str, amount: int) -> None:
        while pot.spills(account, amount) or pot.full(amount):
            # One's own oldest; another's only if the room of all is used up and nothing is one's own.
            own = self._own.get(account, self._none)
            oldest = _oldest(own) or (_oldest(self._kept) if not pot.spills(account, amount) else None)
            if oldest is None:
                break
            self._drop(*oldest)
        pot.take(account, amount)

    def _expire(self) -> None:
        since = self._now() - KEY_AGE
        while self._kept:
            place, known = next(iter(self._kept.items()))
            if known.answer is None or known.when > since:
                break
            self._drop(place, known)

    def _drop(self, place: Place, known: _Remembered) -> None:
        del self._kept[place]
        own = self._own[known.account]
        del own[place]
        if not own:
            del self._own[known.account]
        self._keys.give_back(known.account)
        self._answers.give_back(known.account, known.size)


def _oldest(kept: Mapping[Place, _Remembered]) -> tuple[Place, _Remembered] | None:
    """The one that is forgotten next; one under way never is."""
    return next(((place, known) for place, known in kept.items() if known.answer is not None), None)


def _weighed(event: NewEvent) -> Iterator[None]:
    """Count the event as a step, a large one as several."""
    for _ in range(0, max(1, memoryview(event.data).nbytes), STEP):
        yield


class Api:
    """`/api/v1`. The events of a request are handled in steps, between which others have their turn."""

    def __init__(self, broker: Broker, nodes: Nodes, limits: Limits, clock: IReactorTime, metrics: Metrics) -> None:
        self._broker = broker
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
        await self._spread_out(self._check(principal, events, events is given))
        results: list[Deferred[PublishedEvent | NexusError]] = []
        await self._spread_out(self._put_all(events, results))
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
            self._broker.check(principal, event.event_type, f"{at}eventType")
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

        self._broker.put(event.event_type, bytes(event.data), ok, done.callback)
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
