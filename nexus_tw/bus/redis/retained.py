"""The retained events over Redis: their queries. The script that publishes an event retains it, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from zope.interface import implementer

from nexus_tw.bus.redis.channels import Channels
from nexus_tw.bus.redis.connection import Publisher, away
from nexus_tw.bus.redis.scripts import RETAINED, RETAINED_TYPES, Call, bulk
from nexus_tw.interfaces.plugins import IRetained, RetainedEvent
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern, is_name
from nexus_tw.model.positions import Position

TYPES_AT_ONCE: Final = 200  # in one call of a script
ANSWER_BYTES: Final = 2097152  # of events in one answer; the rest is requested in another call

Done = Callable[[list[RetainedEvent] | NexusError], None]


@implementer(IRetained)
class RedisRetained:
    """A node's queries of the retained events of a realm."""

    def __init__(self, channels: Channels, metrics: Metrics, publisher: Callable[[], Publisher | None]) -> None:
        """`publisher` returns the connection for queries, or None while the bus is away."""
        self._channels = channels
        self._metrics = metrics
        self._publisher = publisher
        self._timeline = b""
        self._count = self._bytes = 0  # as this node counted them in the metrics

    def opened(self, timeline: bytes) -> None:
        """Send queries under this timeline from now on."""
        self._timeline = timeline

    def count(self, count: int, size: int, evicted: int) -> None:
        """Count the retained events in Redis, and those that were dropped for others."""
        metrics = self._metrics
        metrics.retained_evicted += evicted
        # Other realms count here, too.
        metrics.retained_events += count - self._count
        metrics.retained_bytes += size - self._bytes
        self._count, self._bytes = count, size

    def get(self, pattern: Pattern, done: Done) -> None:
        if pattern.exact:
            self._read([pattern.text], [], done)
            return

        def answered(reply: list[bytes] | NexusError) -> None:
            if isinstance(reply, NexusError):
                done(reply)
                return
            names = [name.decode(errors="replace") for name in reply]
            self._read([name for name in names if _selected(pattern, name)], [], done)

        self._ask(Call(RETAINED_TYPES, self._channels.prefix, self._timeline), [self._channels.retained], (), answered)

    def _read(self, types: Sequence[str], found: list[RetainedEvent], done: Done) -> None:
        """Read the events of these types after those that were found, then call `done`."""
        if not types:
            done(found)
            return

        def answered(reply: list[bytes] | NexusError) -> None:
            if isinstance(reply, NexusError):
                done(reply)
                return
            read = [_event(event_type, entry) for event_type, entry in zip(types, reply, strict=False) if entry]
            self._read(types[len(reply) :], [*found, *read], done)

        keys = [self._channels.retained_of(event_type) for event_type in types[:TYPES_AT_ONCE]]
        self._ask(Call(RETAINED, self._channels.prefix, self._timeline), keys, [b"%d" % ANSWER_BYTES], answered)

    def _ask(self, call: Call, keys: Sequence[bytes], arguments: Sequence[bytes], done: Callable[[Any], None]) -> None:
        publisher = self._publisher()
        if publisher is None:
            done(away())
        else:
            publisher.put_script(call.command([bulk(key) for key in keys], [bulk(word) for word in arguments]), done)


def _selected(pattern: Pattern, name: str) -> bool:
    return is_name(name) and pattern.matches(name) and pattern.selects(name)


def _event(event_type: str, entry: bytes) -> RetainedEvent:
    head, _, rest = entry.partition(b"\n")
    at, size = head.decode().split(" ")
    epoch, _, offset = at.rpartition(":")
    place = int(size)
    return RetainedEvent(event_type, rest[place:], rest[:place], Position(epoch, int(offset)))
