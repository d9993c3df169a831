"""A link to one Redis server: the two connections that Pub/Sub takes, which live and die together, and the canary.

The canary is a message that the node publishes to itself. While it comes back, the whole way is known to work: both
connections, and the server between them. A peer that is gone without a word is noticed by nothing else in good time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nexus_tw.bus.redis.address import Address
from nexus_tw.bus.redis.channels import Source, publish_command, publish_head
from nexus_tw.bus.redis.connection import Publisher, Subscriber, Unreachable
from nexus_tw.bus.redis.connector import Door, Place
from nexus_tw.model.errors import NexusError

PATIENCE: Final = 3.0  # s for a server to answer, whatever it is asked
TICK: Final = 1.0  # s between canaries
# Ticks are counted, not seconds: after a pause of this whole process the canary may be there, waiting to be read.
TICKS: Final = 3


class Link:
    """From its opening to its end, which comes once, whichever connection fails and for whatever reason."""

    def __init__(
        self,
        clock: IReactorTime,
        canary_channel: bytes,
        token: str,
        arrived: Callable[[bytes, bytes], None],
        ended: Callable[[str], None],
    ) -> None:
        """`canary_channel` is this node's; `token` tells this link's canaries from those of another process that has the same
        node name by mistake.

        `arrived` gets channel and payload of each message but the canary. `ended` gets the reason, before those who wait
        for an answer are told that there will be none.
        """
        self._clock = clock
        self._ended = ended
        self.publisher = Publisher(clock, self.end)
        self.subscriber = Subscriber(clock, arrived, self.end)
        self._canary_source = Source((canary_channel,), False)
        self._canary_head = publish_head(canary_channel)
        self._token = token
        self._number = 0
        self._canary = b""  # the one that is under way
        self._came_back: Callable[[], None] = _nothing
        self._ticks = 0  # since it was sent
        self._timer: IDelayedCall | None = None
        self._step: Deferred[None] | None = None
        self._why = ""
        self.over: Deferred[str] = Deferred()  # fires with the reason

    async def open(self, door: Door, place: Place, address: Address) -> None:
        """Connects and logs in; raises `Unreachable`."""

        for connection in (self.publisher, self.subscriber):
            await door.talk(place, connection, lambda connection: connection.login(address), PATIENCE)

    async def subscribe(self, sources: Iterable[tuple[Source, Callable[[], None]]]) -> None:
        """Subscribes to all of these, calls each one's function when it stands, and waits for the last."""

        def start(done: Callable[[], None]) -> None:
            for source, stands in sources:
                self.subscriber.subscribe(source, stands)
            # Confirmations come in order, so this one comes after those of all that was asked for until now, by anybody.
            self.subscriber.subscribe(self._canary_source, done)

        await self._wait(start)

    async def prove(self) -> None:
        """Waits until a canary came back; so did all that this node published before it."""
        await self._wait(self._send_canary)

    def watch(self) -> None:
        """Sends canaries from now on, and ends the link when they do not come back."""
        if self._ticks >= TICKS:
            self.end(f"a message to itself did not come back within {TICK * TICKS:g} s")
            return
        if not self._canary:
            self._send_canary(_nothing)
        self._ticks += 1
        self._timer = self._clock.callLater(TICK, self.watch)

    def returned(self, payload: bytes) -> None:
        """Something came on the canary's channel."""
        if payload == self._canary:
            self._canary = b""
            self._ticks = 0
            came_back, self._came_back = self._came_back, _nothing
            came_back()

    def end(self, why: str) -> None:
        """Drops both connections at once. Only the first reason counts."""
        self.publisher.fail(why)
        self.subscriber.fail(why)
        if self._why:
            return
        self._why = why
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._ended(why)
        if self._step is not None and not self._step.called:
            self._step.errback(Unreachable(why))
        self.publisher.release()
        self.subscriber.release()
        self.over.callback(why)

    async def closed(self) -> None:
        """Waits until no connection is left; only after `end`."""
        await DeferredList([one.closed for one in (self.publisher, self.subscriber) if one.connected])

    def _send_canary(self, came_back: Callable[[], None]) -> None:
        self._number += 1
        self._canary = f"{self._token} {self._number}".encode()
        self._came_back = came_back
        self.publisher.put(publish_command(self._canary_head, self._canary), self._canary_taken)

    def _canary_taken(self, reply: int | NexusError) -> None:
        if isinstance(reply, NexusError):
            self.end(reply.message)

    async def _wait(self, start: Callable[[Callable[[], None]], None]) -> None:
        """Until the function that `start` is given is called; `Unreachable` where that takes too long or the link ends."""
        if self._why:
            raise Unreachable(self._why)
        self._step = step = Deferred[None]()
        start(lambda: None if step.called else step.callback(None))
        patience = self._clock.callLater(PATIENCE, self.end, f"no answer within {PATIENCE:g} s")
        try:
            await step
        finally:
            self._step = None
            if patience.active():
                patience.cancel()


def _nothing() -> None:
    pass
