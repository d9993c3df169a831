"""A link to one Redis server: the two connections that Pub/Sub needs, which are opened and closed together, and the canary.

The canary is a message that the node publishes to itself. As long as it comes back, the whole path works: both
connections, and the server between them. Nothing else detects in good time a peer that vanished silently.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nexus_tw.bus.redis.address import Address
from nexus_tw.bus.redis.channels import Source, publish_command, publish_head
from nexus_tw.bus.redis.connection import Publisher, Subscriber, Unreachable
from nexus_tw.bus.redis.connector import Door, Place
from nexus_tw.model.errors import NexusError

PATIENCE: Final = 3.0  # s for a server to answer any request
TICK: Final = 1.0  # s between canaries
# Ticks are counted, not seconds: after a pause of this whole process the canary may have arrived without having been read.
TICKS: Final = 3


class Link:
    """From its opening to its end, which happens once, whichever connection fails and for whatever reason."""

    def __init__(
        self,
        clock: IReactorTime,
        canary_channel: bytes,
        token: str,
        arrived: Callable[[bytes, bytes], None],
        ended: Callable[[str], None],
    ) -> None:
        """`canary_channel` is this node's; `token` distinguishes this link's canaries from those of another process with the
        same node name by mistake.

        `arrived` gets channel and payload of each message but the canary. `ended` gets the reason, before pending requests
        are told that there will be no answer.
        """
        self._clock = clock
        self._ended = ended
        self.publisher = Publisher(clock, self.end)
        self.subscriber = Subscriber(clock, arrived, self.end)
        self._canary_source = Source((canary_channel,), False)
        self._canary_head = publish_head(canary_channel)
        # Sends canaries in another way than a plain PUBLISH, and reports how many connections got one.
        self.fly: Callable[[bytes, Callable[[int | NexusError], None]], None] | None = None
        self._token = token
        self._number = 0
        self._canary = b""  # the one on its way
        self._came_back: Callable[[], None] = _nothing
        self._ticks = 0  # since it was sent
        self._timer: IDelayedCall | None = None
        self._step: Deferred[None] | None = None
        self._why = ""
        self.over: Deferred[str] = Deferred()  # fires with the reason

    async def open(
        self, door: Door, place: Place, address: Address, begin: Callable[[Publisher], Awaitable[None]] | None = None
    ) -> None:
        """Connect, log in, and let `begin` talk to the server; raise `Unreachable`."""

        async def introduced(publisher: Publisher) -> None:
            await publisher.login(address)
            if begin is not None:
                await begin(publisher)

        await door.talk(place, self.publisher, introduced, PATIENCE)
        await door.talk(place, self.subscriber, lambda connection: connection.login(address), PATIENCE)

    async def subscribe(self, sources: Iterable[tuple[Source, Callable[[], None]]]) -> None:
        """Subscribe to all of these, call each one's function when it is confirmed, and wait for the last."""

        def start(done: Callable[[], None]) -> None:
            for source, stands in sources:
                self.subscriber.subscribe(source, stands)
            # Confirmations come in order, so this one comes after those of all earlier requests of any caller.
            self.subscriber.subscribe(self._canary_source, done)

        await self._wait(start)

    async def prove(self) -> None:
        """Wait until a canary has come back, and with it all that this node published before it."""
        await self._wait(self._send_canary)

    def watch(self) -> None:
        """Send canaries from now on, and end the link when they do not come back."""
        if self._ticks >= TICKS:
            self.end(f"a message to itself did not come back within {TICK * TICKS:g} s")
            return
        if not self._canary:
            self._send_canary(_nothing)
        self._ticks += 1
        self._timer = self._clock.callLater(TICK, self.watch)

    def returned(self, payload: bytes) -> None:
        """Process a message on the canary's channel."""
        if payload == self._canary:
            self._canary = b""
            self._ticks = 0
            came_back, self._came_back = self._came_back, _nothing
            came_back()

    def end(self, why: str) -> None:
        """Drop both connections at once. Only the first reason counts."""
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
        """Wait until both connections are closed; call it only after `end`."""
        await DeferredList([one.closed for one in (self.publisher, self.subscriber) if one.connected])

    def _send_canary(self, came_back: Callable[[], None]) -> None:
        self._number += 1
        self._canary = f"{self._token} {self._number}".encode()
        self._came_back = came_back
        if self.fly is None:
            self.publisher.put(publish_command(self._canary_head, self._canary), self._canary_taken)
        else:
            self.fly(self._canary, self._canary_taken)

    def _canary_taken(self, reply: int | NexusError) -> None:
        if isinstance(reply, NexusError):
            self.end(reply.message)

    async def _wait(self, start: Callable[[Callable[[], None]], None]) -> None:
        """Wait until the function passed to `start` is called; raise `Unreachable` if that takes too long or the link ends."""
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
