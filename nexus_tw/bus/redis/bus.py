"""The bus over Redis Pub/Sub (https://redis.io/docs/latest/develop/pubsub/).

The bus uses a `Link` as long as it works and then makes another, for ever: first after a random part of 0.1 s,
then of twice as much each time, up to 1 s. No answer of Redis stops that: an operator may correct a wrong password, a server
that is loading its data will finish, one with too many clients will lose some.

A link counts only once all wanted patterns are subscribed and a canary has come back. Until then the bus is away.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from nexus_tw.bus.redis.address import Address
from nexus_tw.bus.redis.channels import Channels, Source, publish_command, publish_head
from nexus_tw.bus.redis.connection import BATCH, Publisher, Unreachable, away, guarded
from nexus_tw.bus.redis.connector import Door, Place
from nexus_tw.bus.redis.link import PATIENCE, Link
from nexus_tw.bus.redis.sentinel import Sentinels
from nexus_tw.interfaces.plugins import BusListener, IBus, IHistory
from nexus_tw.model import payloads
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.pattern_index import PatternIndex, some
from nexus_tw.model.positions import Position
from nexus_tw.model.settings import DEFAULT_REALM

FIRST_DELAY: Final = 0.1  # s
MAX_DELAY: Final = 1.0
MASTER_CHECK: Final = 5.0  # s between questions to the sentinels while a link is up
# Deeper than clients may publish, as programs that publish to Redis are not bound by those limits.
DEPTH: Final = 128
COMPLAINTS: Final = 1024  # channels with invalid messages that are named in the log

_NO_METADATA: Final = (b"", b"")


class _Subscription:
    """One subscription on Redis, on behalf of all patterns that need it."""

    __slots__ = ("count", "link", "source", "waiters")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.count = 0
        self.link: Link | None = None  # the link on which it is confirmed
        self.waiters: list[Callable[[], None]] = []


@implementer(IBus)
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
    ) -> None:
        """`reactor` provides time and connections. Raise `ConfigError` if the address's certificates cannot be used."""
        self.node = node
        self.available = False
        self.history: IHistory | None = None
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
        self._subscriptions: dict[Source, _Subscription] = {}
        self._own = frozenset((self._channels.node(node), self._channels.nodes))
        self._metadata = _NO_METADATA  # the event that comes next, and its metadata
        self._complaints: set[bytes] = set()

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
        publisher = self._publisher(done)
        if publisher is None:
            return

        def answered(reply: Any) -> None:
            done(None if type(reply) is int else reply)

        event = publish_command(self._channels.event_head(event_type), data)
        if metadata:
            publisher.put_together((publish_command(self._channels.metadata_head(event_type), metadata), event), answered)
        else:
            publisher.put(event, answered)

    def send(self, node: str | None, body: bytes, done: Callable[[int | NexusError], None]) -> None:
        publisher = self._publisher(done)
        if publisher is not None:
            channel = self._channels.nodes if node is None else self._channels.node(node)
            publisher.put(publish_command(publish_head(channel), body), done)

    def subscribe(self, pattern: Pattern, done: Callable[[], None]) -> None:
        self._wanted.put(pattern, pattern)
        source = self._channels.source_of(pattern)
        subscription = self._subscriptions.get(source)
        if subscription is None:
            subscription = self._subscriptions[source] = _Subscription(source)
            if self._link is not None:
                self._link.subscriber.subscribe(source, self._standing(subscription))
        subscription.count += 1
        if self._proven and subscription.link is not self._link:
            subscription.waiters.append(done)
        else:
            done()

    def unsubscribe(self, pattern: Pattern) -> None:
        self._wanted.drop(pattern)
        source = self._channels.source_of(pattern)
        subscription = self._subscriptions[source]
        subscription.count -= 1
        if not subscription.count:
            del self._subscriptions[source]
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

    def _standing(self, subscription: _Subscription) -> Callable[[], None]:
        def stands() -> None:
            subscription.link = self._link
            waiters, subscription.waiters = subscription.waiters, []
            for waiter in waiters:
                guarded(waiter)

        return stands

    # --- what arrives

    def _arrived(self, channel: bytes, payload: bytes) -> None:
        # Metadata comes directly before its event, as Redis lets nothing come between; so the next message is that
        # event, or the event is lost.
        (event, metadata), self._metadata = self._metadata, _NO_METADATA
        if channel.startswith(self._channels.events):
            self._event(channel, payload, metadata if channel == event else b"")
        elif channel.startswith(self._channels.metadata):
            self._metadata = self._channels.event_after(channel), payload
        elif channel in self._own:
            if self._listener is not None:
                self._listener.message(payload)
        elif self._link is not None:
            self._link.returned(payload)

    def _event(self, channel: bytes, payload: bytes, metadata: bytes) -> None:
        event_type = self._channels.event_type_of(channel)
        if event_type is None:
            self._invalid(channel, "its name is no event type")
            return
        if not self._wanted.any(event_type):
            return
        try:
            payloads.decode(payload, "data", DEPTH)
        except NexusError as error:
            self._invalid(channel, error.message)
            return
        if self._listener is not None:
            self._listener.event(event_type, payload, metadata, None)

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
        self._metadata = _NO_METADATA  # metadata that arrived over another link is void
        try:
            await link.open(self._door, place, self._address)
            # From here on new patterns are subscribed at once; all that were wanted before follow in batches.
            self._link = link
            before = iter(list(self._subscriptions.values()))
            await link.subscribe((Source((channel,), False), _nothing) for channel in self._own)
            while batch := list(islice(before, BATCH)):
                await link.subscribe(self._still_wanted(batch))
            await link.prove()
            self._proven = True
            await link.subscribe(())  # waits for the patterns requested in the meantime
            self._up()
            link.watch()
            return await (self._while_master(link, place) if self._sentinels else link.over)
        finally:
            link.end("given up")
            await link.closed()

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
        self._proven = False
        if self.available:
            self._down(why)

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
