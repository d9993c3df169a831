"""The bus over Redis Pub/Sub (https://redis.io/docs/latest/develop/pubsub/).

The bus uses a `Link` as long as it works and then makes another, for ever: first after a random part of 0.1 s,
then of twice as much each time, up to 1 s. No answer of Redis stops that: an operator may correct a wrong password, a server
that is loading its data will finish, one with too many clients will lose some.

A link counts only once all wanted patterns are subscribed and a canary has come back. Until then the bus is away.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from secrets import token_hex
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from nexus_tw.bus.bounds import Bounds
from nexus_tw.bus.redis.address import Address
from nexus_tw.bus.redis.adoption import MARK, Adoption
from nexus_tw.bus.redis.attendance import RedisAttendance
from nexus_tw.bus.redis.batch import Form
from nexus_tw.bus.redis.channels import Channels, Source, command, publish_command, publish_head
from nexus_tw.bus.redis.claims import RedisClaims
from nexus_tw.bus.redis.connection import BATCH, Publisher, Unreachable, away, guarded
from nexus_tw.bus.redis.connector import Door, Place
from nexus_tw.bus.redis.history import RedisHistory
from nexus_tw.bus.redis.ledger import RedisLedger
from nexus_tw.bus.redis.link import PATIENCE, Link
from nexus_tw.bus.redis.retained import RedisRetained
from nexus_tw.bus.redis.roll import RedisRoll
from nexus_tw.bus.redis.sentinel import Sentinels
from nexus_tw.bus.redis.sources import Change, Sources
from nexus_tw.bus.redis.timeline import Denied, opened
from nexus_tw.bus.redis.twins import Twin, Twins
from nexus_tw.bus.redis.writer import Writer, canaries
from nexus_tw.interfaces.ledger import ILedger
from nexus_tw.interfaces.plugins import BusListener, IAttendance, IBus, IClaims, IHistory, IRetained, IRevoked, IRoll
from nexus_tw.model import payloads
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.pattern_index import PatternIndex, some
from nexus_tw.model.positions import Position
from nexus_tw.model.room import Room
from nexus_tw.model.settings import DEFAULT_REALM, History

FIRST_DELAY: Final = 0.1  # s
MAX_DELAY: Final = 1.0
MASTER_CHECK: Final = 5.0  # s between questions to the sentinels while a link is up
# Deeper than clients may publish, as programs that publish to Redis are not bound by those limits.
DEPTH: Final = 128
COMPLAINTS: Final = 1024  # channels with invalid messages that are named in the log

_FOREIGN: Final = Twin(b"", None)


class _Subscription:
    """One subscription on Redis, on behalf of all patterns that need it."""

    __slots__ = ("link", "source", "waiters")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.link: Link | None = None  # the link on which it is confirmed
        self.waiters: list[tuple[Pattern, Callable[[], None]]] = []


@implementer(IBus, IRevoked)
class RedisBus:
    """A node on Redis. If Redis is unreachable at the start, the listener is told by `lost`, as at any other time."""

    _log = Logger()

    def __init__(
        self,
        address: Address,
        reactor: Any,
        metrics: Metrics,
        node: str,
        realm: str = DEFAULT_REALM,
        chance: random.Random | None = None,
        history: History | None = None,
        adopt: bool = False,
        room: Room | None = None,
    ) -> None:
        """`reactor` provides time and connections. Without `history` nothing is kept in Redis; with `adopt` events of other
        programs are kept too. `room` is that of the ledger. Raise `ConfigError` if the address's certificates are unusable."""
        self.node = node
        self.available = False
        self._address = address
        self._name = str(address) if realm == DEFAULT_REALM else f"{address} for the realm {realm}"  # in the log
        self._channels = Channels.of(realm)
        self._reactor = reactor
        self._metrics = metrics
        self._chance = chance or random.Random()  # noqa: S311 - spreads attempts over time
        self._door = Door(reactor, address)
        self._sentinels = Sentinels(self._door, address) if address.master is not None else None
        self._listener: BusListener | None = None
        self._started: Deferred[None] = Deferred()
        self._patience: IDelayedCall | None = None
        self._supervisor: Deferred[None] | None = None
        self._stopping = False
        self._since = math.inf  # when the present link came up
        self._link: Link | None = None
        self._proven = False  # the link has brought a canary back, so its confirmations will come
        self._wanted: PatternIndex[Pattern] = PatternIndex(some)
        self._sources = Sources(self._channels)
        self._subscriptions: dict[Source, _Subscription] = {}
        self._own = frozenset((self._channels.node(node), self._channels.nodes))
        self._twins = Twins()
        self._complaints: set[bytes] = set()
        self._bounds = Bounds(history or History(count=0))
        self._past = RedisHistory(self._channels, self._bounds, reactor, metrics, self._ready)
        self.history: IHistory | None = self._past if self._bounds.any else None
        self._retained = RedisRetained(self._channels, metrics, self._ready)
        self.retained: IRetained | None = self._retained if self._bounds.any else None
        self._roll = RedisRoll(self._channels, self._ready)
        self.roll: IRoll | None = self._roll
        self._commands = RedisLedger(self._channels, self._bounds, metrics, self._ready, room or Room())
        self.ledger: ILedger | None = self._commands
        self._attendance = RedisAttendance(self._channels, self._bounds, self._ready)
        self.attendance: IAttendance | None = self._attendance
        self._claims = RedisClaims(self._channels, reactor, self._ready)
        self.claims: IClaims | None = self._claims
        self._form = Form(self._channels, self._bounds, self._retained.count)
        self._writer: Writer | None = None
        self._adopts = adopt
        self._adoption: Adoption | None = None

    # --- IBus

    def start(self, listener: BusListener) -> Deferred[None]:
        self._listener = listener
        self._supervisor = Deferred.fromCoroutine(self._supervise())
        self._supervisor.addErrback(lambda gone: gone.trap(CancelledError))
        if not self._started.called:
            self._patience = self._reactor.callLater(PATIENCE, self._down, "no connection yet")
        return self._started

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    def publish(
        self,
        event_type: str,
        data: bytes,
        done: Callable[[Position | NexusError | None], None],
        metadata: bytes = b"",
    ) -> None:
        if self._publisher(done) is not None and self._writer is not None:
            self._writer.publish(event_type, data, metadata, done)

    def send(self, node: str | None, body: bytes, done: Callable[[int | NexusError], None]) -> None:
        publisher = self._publisher(done)
        if publisher is not None:
            channel = self._channels.nodes if node is None else self._channels.node(node)
            publisher.put(publish_command(publish_head(channel), body), done)

    def subscribe(self, pattern: Pattern, done: Callable[[], None]) -> None:
        self._wanted.put(pattern, pattern)
        self._change(self._sources.add(pattern))
        subscription = self._subscriptions[self._sources.of(pattern)]
        if self._proven and subscription.link is not self._link:
            subscription.waiters.append((pattern, done))
        elif self._adoption is not None and self._proven:
            self._adoption.settle((pattern,), subscription.source, done)
        else:
            done()

    def unsubscribe(self, pattern: Pattern) -> None:
        self._wanted.drop(pattern)
        if self._adoption is not None:
            self._adoption.drop(pattern)
        self._change(self._sources.drop(pattern))

    # --- IRevoked

    def revoke(self, key: str, record: bytes) -> Deferred[None]:
        return self._asked(command(b"HSET", (self._channels.revocations, key.encode(), record)), int).addCallback(_none)

    def unrevoke(self, keys: Sequence[str]) -> Deferred[None]:
        words = (self._channels.revocations, *(key.encode() for key in keys))
        return self._asked(command(b"HDEL", words), int).addCallback(_none)

    def revoked(self) -> Deferred[list[bytes]]:
        return self._asked(command(b"HVALS", (self._channels.revocations,)), list)

    def _asked(self, words: bytes, kind: type) -> Deferred[Any]:
        """Return the answer of Redis to a command; fail with `bus_unavailable`."""
        answer: Deferred[Any] = Deferred()

        def done(reply: Any) -> None:
            if isinstance(reply, NexusError):
                answer.errback(reply)
            else:
                answer.callback(reply)

        publisher = self._publisher(done)
        if publisher is not None:
            publisher.query(words, done, kind)
        return answer

    # ---

    def _change(self, change: Change) -> None:
        """Change the subscriptions on Redis. It carries out all of this in order, so what replaces others is there before they
        end, and every publication in between comes through one of them."""
        for source in change.added:
            subscription = self._subscriptions[source] = _Subscription(source)
            self._metrics.bus_globs += source.glob
            if self._link is not None:
                self._link.subscriber.subscribe(source, self._standing(subscription))
        for source in change.dropped:
            # A caller that still waits for it is called when Redis has confirmed it all the same.
            del self._subscriptions[source]
            self._metrics.bus_globs -= source.glob
            if self._link is not None:
                self._link.subscriber.unsubscribe(source)

    # ---

    def _publisher(self, done: Callable[[Any], None]) -> Publisher | None:
        """Return the publisher to use; None after reporting why none can be used."""
        link = self._link
        if link is None or not self.available:
            done(away())
        elif link.publisher.behind:
            done(NexusError("bus_unavailable", "The event bus is behind"))
        else:
            return link.publisher
        return None

    def _ready(self) -> Publisher | None:
        """Return the connection for queries of the history; None while the bus is away."""
        return self._link.publisher if self._link is not None and self.available else None

    def _standing(self, subscription: _Subscription) -> Callable[[], None]:
        def stands() -> None:
            subscription.link = self._link
            waiters, subscription.waiters = subscription.waiters, []
            if waiters and self._adoption is not None and self._proven and self._link is not None:
                patterns = {pattern for pattern, _ in waiters if self._wanted.get(pattern) is not None}
                self._adoption.settle(patterns, subscription.source, lambda: settled(waiters))
            else:
                settled(waiters)

        def settled(waiters: Iterable[tuple[Pattern, Callable[[], None]]]) -> None:
            for _, waiter in waiters:
                guarded(waiter)

        return stands

    # --- what arrives

    def _arrived(self, channel: bytes, payload: bytes) -> None:
        if channel.startswith(self._channels.events):
            self._event(channel, payload, self._twins.event(channel))
            return
        if channel.startswith(self._channels.metadata):
            self._said(self._channels.event_after(channel), payload)
            return
        self._twins.other()
        if channel == self._channels.marks and self._adoption is not None:
            self._adoption.marked(None, payload)
            return
        if channel in self._own:
            if self._listener is not None:
                self._listener.message(payload)
        elif self._link is not None:
            self._link.returned(payload)

    def _said(self, channel: bytes, payload: bytes) -> None:
        """Process metadata, a mark or the notice of an adoption, for the type of this channel."""
        adopted = self._twins.about(channel, payload)
        if self._adoption is None:
            return
        event_type = self._channels.event_type_of(channel)
        if event_type is None:
            return
        if payload.startswith(MARK):
            self._adoption.marked(event_type, payload)
        elif adopted is not None and self._wanted.any(event_type) and self._listener is not None:
            self._listener.event(event_type, adopted[1], b"", adopted[0])

    def _live(self, event_type: str, data: bytes) -> None:
        """Hand on a foreign event that is not in the history."""
        if self._listener is not None and self._wanted.any(event_type):
            guarded(self._listener.event, event_type, data, b"", None)

    def _event(self, channel: bytes, payload: bytes, twin: Twin | None) -> None:
        event_type = self._channels.event_type_of(channel)
        if event_type is None:
            self._invalid(channel, "its name is no event type")
            return
        if not self._wanted.any(event_type):
            return
        if twin is None:
            adoption = self._adoption if self._bounds.of(event_type) is not None else None
            name = adoption.came(event_type) if adoption is not None else None
            try:
                payloads.decode(payload, "data", DEPTH)
            except NexusError as error:
                self._invalid(channel, error.message)
                return
            if adoption is not None:
                # The notice of its place delivers it. If this node does not know its name, it was published before the
                # subscription was active, and other nodes request the place.
                if name is not None:
                    adoption.adopt(event_type, name, payload)
                return
            twin = _FOREIGN
        if self._listener is not None:
            self._listener.event(event_type, payload, twin.metadata, twin.position)

    def _invalid(self, channel: bytes, why: str) -> None:
        self._metrics.bus_invalid += 1
        if channel not in self._complaints and len(self._complaints) < COMPLAINTS:
            self._complaints.add(channel)
            self._log.warn("Dropped what was published on {channel!r}: {why}", channel=channel[:300], why=why)

    # --- supervision

    async def _supervise(self) -> None:
        failures = 0
        while True:
            self._since = math.inf
            try:
                why = await self._serve()
            except Unreachable as error:
                why = str(error)
            except Exception as error:  # whatever the error, a bus that stops trying would be worse
                why = f"{type(error).__name__}: {error}"
            if self._stopping:
                return
            self._down(why)
            stood = self._reactor.seconds() - self._since >= MAX_DELAY
            failures = 1 if stood else min(failures + 1, 10)
            delay = min(MAX_DELAY, FIRST_DELAY * 2 ** (failures - 1))
            await deferLater(self._reactor, self._chance.uniform(0, delay))

    async def _serve(self) -> str:
        """Run a link from its beginning to its end, and return why it ended."""
        place = await self._sentinels.master() if self._sentinels else (*self._address.hosts, ("", 0))[0]
        canary = self._channels.canary(self.node)
        link = Link(self._reactor, canary, f"{self._chance.getrandbits(64):x}", self._arrived, self._cut)
        self._twins = Twins()  # metadata that arrived over another link is void
        timeline = b""

        async def begin(publisher: Publisher) -> None:
            nonlocal timeline
            timeline = await self._begin_history(publisher)

        try:
            await link.open(self._door, place, self._address, begin)
            if timeline:
                link.fly = canaries(link.publisher, self._channels, timeline, self.node)
            # From here on new patterns are subscribed at once; all that were wanted before follow in batches.
            self._link = link
            before = iter(list(self._subscriptions.values()))
            own = (*self._own, self._channels.marks) if self._adoption is not None else self._own
            await link.subscribe((Source((channel,), False), _nothing) for channel in own)
            while batch := list(islice(before, BATCH)):
                await link.subscribe(self._still_wanted(batch))
            await link.prove()
            self._proven = True
            await link.subscribe(())  # waits for the patterns requested in the meantime
            if self._adoption is not None:
                self._adoption.settle(self._wanted, None, _nothing)
                await link.prove()
            self._up()
            link.watch()
            return await (self._while_master(link, place) if self._sentinels else link.over)
        finally:
            link.end("given up")
            await link.closed()

    async def _begin_history(self, publisher: Publisher) -> bytes:
        """Open history and ledger if the user has the rights. Return the timeline of the history, or b""."""
        names, bounds, metrics = self._channels, self._bounds, self._metrics
        self._adoption = None
        self._writer = Writer(publisher, names, bounds, metrics, None)
        try:
            timeline = await opened(publisher, names, token_hex(4))
        except Denied as error:
            if self.roll is not None:
                what = "History is off, and" if bounds.any else "Since scripts are refused,"
                said = "{what} nodes do not know each other on the bus at {address}: {why}"
                self._log.warn(said, what=what, address=self._name, why=str(error))
            self.history = self.retained = self.roll = self.claims = self.ledger = self.attendance = None
            return b""
        if self.roll is None:
            self._log.info("Scripts are accepted again on the bus at {address}", address=self._name)
        self._roll.opened(timeline)
        self._attendance.opened(timeline)
        self._commands.opened(timeline)
        self._claims.opened(timeline)
        self.roll, self.ledger, self.attendance = self._roll, self._commands, self._attendance
        self.claims = self._claims
        if not bounds.any:
            return timeline
        self._past.opened(timeline)
        self._retained.opened(timeline)
        self.history, self.retained = self._past, self._retained
        self._form.opened(timeline)
        self._writer = Writer(publisher, names, bounds, metrics, self._form)
        if self._adopts:
            self._adoption = Adoption(names, bounds, self._reactor, metrics, publisher, timeline, self._live)
        return timeline

    def _still_wanted(self, batch: Iterable[_Subscription]) -> Iterable[tuple[Source, Callable[[], None]]]:
        for subscription in batch:
            if self._subscriptions.get(subscription.source) is subscription:
                yield subscription.source, self._standing(subscription)

    async def _while_master(self, link: Link, place: Place) -> str:
        # A master that is cut off from its sentinels still serves us, while other nodes have moved to the new one.
        deposed = Deferred.fromCoroutine(self._deposed(place))
        deposed.addCallbacks(lambda _: link.end("the sentinels name another master"), lambda gone: gone.trap(CancelledError))
        try:
            return await link.over
        finally:
            deposed.cancel()

    async def _deposed(self, place: Place) -> None:
        """Return once the sentinels name another master. Unreachable sentinels promote no master, so nothing follows."""
        assert self._sentinels is not None
        now = place
        while now == place:
            await deferLater(self._reactor, MASTER_CHECK)
            with suppress(Unreachable):
                now = await self._sentinels.master()

    async def _stop(self) -> None:
        self._stopping = True
        link = self._link if self.available else None
        self.available = False
        if link is not None:
            with suppress(Unreachable):
                await link.prove()
        # The caller that stops us may have been called by the supervisor itself.
        await deferLater(self._reactor, 0)
        if self._supervisor is not None:
            self._supervisor.cancel()
            await self._supervisor
        self._listener = None
        self._begin()

    def _cut(self, why: str) -> None:
        """The link has ended; those who wait for its answers will be told next."""
        self._link = None
        self._writer = None
        self._proven = False
        if self.available:
            self._down(why)
        adoption, self._adoption = self._adoption, None
        if adoption is not None:
            adoption.release()

    def _up(self) -> None:
        if self._stopping:
            return
        self._since = self._reactor.seconds()
        self.available = True
        self._log.info("The bus is connected to {address}", address=self._name)
        if self._started.called:
            self._metrics.bus_reconnects += 1
            self._tell(lambda listener: listener.restored())
        else:
            self._begin()

    def _down(self, why: str) -> None:
        if self._started.called and not self.available:
            return
        self.available = False
        self._log.warn("The bus at {address} is away: {why}", address=self._name, why=why)
        self._tell(lambda listener: listener.lost())
        self._begin()

    def _begin(self) -> None:
        """Tell `start` that the first attempt has ended, or that it is no longer needed."""
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        if not self._started.called:
            self._started.callback(None)

    def _tell(self, what: Callable[[BusListener], None]) -> None:
        if self._listener is not None:
            guarded(what, self._listener)


def _nothing() -> None:
    pass


def _none(_answer: object) -> None:
    pass
