"""The history over Redis: its queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from nexus_tw.bus import bounds
from nexus_tw.bus.bounds import Bounds, too_many
from nexus_tw.bus.redis.batch import new_birth
from nexus_tw.bus.redis.channels import Channels
from nexus_tw.bus.redis.connection import Publisher, away, guarded
from nexus_tw.bus.redis.entries import stored
from nexus_tw.bus.redis.scripts import KNOWN, PAGE, READ, TOPS, Call, bulk
from nexus_tw.bus.requests import Answers
from nexus_tw.interfaces.plugins import IHistory
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern, is_name
from nexus_tw.model.positions import Missed, Position
from nexus_tw.runtime.turn import Turn

TYPES_AT_ONCE: Final = 200  # in one call of a script
READS_AT_ONCE: Final = 64
ANSWER_BYTES: Final = 2097152  # of events in one answer; the rest is requested in another call
LOOKED_AT: Final = 1000  # names of the index visited in one call
MAX_WAITING: Final = 65536  # positions whose reading has not begun

_NONE: Final = b"$0\r\n\r\n"
_NOWHERE: Final = Position("-", 0)  # of a type that has no history

Request = tuple[str, Position]


@implementer(IHistory)
class RedisHistory:
    """A node's queries of the history. Reads are sent one after the other, each for many positions."""

    def __init__(
        self,
        channels: Channels,
        bounds: Bounds,
        clock: IReactorTime,
        metrics: Metrics,
        publisher: Callable[[], Publisher | None],
    ) -> None:
        """`publisher` returns the connection for queries, or None while the bus is away."""
        self._channels = channels
        self._bounds = bounds
        self._metrics = metrics
        self._publisher = publisher
        self._turn = Turn(clock)
        self._prefix = channels.prefix
        self._timeline = b""
        self._waiting: dict[Request, list[Callable[[Missed | NexusError], None]]] = {}
        self._reading: list[tuple[Request, list[Callable[[Missed | NexusError], None]]]] = []

    def opened(self, timeline: bytes) -> None:
        """Send queries under this timeline from now on."""
        self._timeline = timeline

    # --- IHistory

    def tops(self, types: Sequence[str], done: Callable[[dict[str, Position] | NexusError], None]) -> None:
        publisher = self._publisher()
        if publisher is None:
            done(away())
            return
        kept = [event_type for event_type in dict.fromkeys(types) if self._bounds.of(event_type) is not None]
        parts = [kept[place : place + TYPES_AT_ONCE] for place in range(0, len(kept), TYPES_AT_ONCE)]
        found: dict[str, Position] = {}
        left = len(parts)

        def answered(part: Sequence[str], reply: list[bytes] | NexusError) -> None:
            nonlocal left
            if left <= 0:
                return
            if isinstance(reply, NexusError):
                left = 0
                done(reply)
                return
            for event_type, epoch, offset in zip(part, reply[::2], reply[1::2], strict=True):
                found[event_type] = Position(epoch.decode(), int(offset))
            left -= 1
            if not left:
                done(found)

        if not parts:
            done(found)
        for part in parts:
            keys = [bulk(self._channels.hash_of(event_type)) for event_type in part]
            publisher.put_script(self._call(TOPS, keys, [bulk(new_birth())]), partial(answered, part))

    def known(self, pattern: Pattern, done: Callable[[dict[str, Position] | NexusError], None]) -> None:
        found: dict[str, Position] = {}
        keys, glob = [bulk(self._channels.types)], bulk(self._channels.glob_of(pattern))

        def look(cursor: bytes) -> None:
            publisher = self._publisher()
            if publisher is None:
                done(away())
                return
            arguments = [bulk(cursor), glob, bulk(b"%d" % LOOKED_AT)]
            publisher.put_script(self._call(KNOWN, keys, arguments), answered)

        def answered(reply: list[bytes] | NexusError) -> None:
            if isinstance(reply, NexusError):
                done(reply)
                return
            for name, epoch, offset in zip(reply[1::3], reply[2::3], reply[3::3], strict=True):
                event_type = name.decode(errors="replace")
                wanted = is_name(event_type) and pattern.matches(event_type) and pattern.selects(event_type)
                if wanted and self._bounds.of(event_type) is not None:
                    found[event_type] = Position(epoch.decode(), int(offset))
            if len(found) > bounds.MAX_KNOWN:
                done(too_many(pattern))
            elif reply[0] == b"0":
                done(found)
            else:
                look(reply[0])

        look(b"0")

    def read(self, requests: Sequence[Request], done: Callable[[list[Missed] | NexusError], None]) -> None:
        if self._publisher() is None:
            done(away())
            return
        if len(self._waiting) + len(requests) > MAX_WAITING:
            done(NexusError("bus_unavailable", f"The event bus is behind: more than {MAX_WAITING} positions wait to be read"))
            return
        if not requests:
            done([])
            return
        reading = Answers(len(requests), done)
        for place, request in enumerate(requests):
            if not self._waiting:
                self._turn.add(self._begin)
            self._waiting.setdefault(request, []).append(partial(reading.take, place))

    def page(
        self, event_type: str, since: Position | None, limit: int, done: Callable[[Missed | NexusError], None]
    ) -> None:
        publisher, kept = self._publisher(), self._bounds.of(event_type)
        if publisher is None:
            done(away())
            return
        if kept is None:
            done(Missed(since is None, _NOWHERE))
            return

        def answered(reply: list[Any] | NexusError) -> None:
            if isinstance(reply, NexusError):
                done(reply)
                return
            _, epoch, offset, whole, before, entries = reply
            events = stored(int(before) + 1, entries)[:limit]
            self._metrics.history_gaps += not whole
            done(Missed(bool(whole), Position(epoch.decode(), int(offset)), events if whole else ()))

        self._metrics.history_reads += 1
        keys = [bulk(self._channels.hash_of(event_type)), bulk(self._channels.list_of(event_type))]
        place = [_NONE] * 3 if since is None else _words(since)
        bounds = (max(limit, 1), kept.count, int(kept.age * 1000), kept.bytes)
        arguments = [*place, *(bulk(b"%d" % bound) for bound in bounds)]
        publisher.put_script(self._call(PAGE, keys, arguments), answered)

    # ---

    def _call(self, script: Any, keys: Sequence[bytes], arguments: Sequence[bytes]) -> bytes:
        return Call(script, self._prefix, self._timeline).command(keys, arguments)

    def _begin(self) -> None:
        """Read the next positions, unless others are being read."""
        if self._reading or not self._waiting:
            return
        publisher = self._publisher()
        if publisher is None:
            self._fail(away())
            return
        for request in list(self._waiting)[:READS_AT_ONCE]:
            waiters = self._waiting.pop(request)
            kept = self._bounds.of(request[0])
            if kept is None:
                for waiter in waiters:
                    guarded(waiter, Missed(False, _NOWHERE))
                continue
            self._reading.append((request, waiters))
        if not self._reading:
            self._begin()
            return
        keys, arguments = [], [bulk(b"%d" % ANSWER_BYTES)]
        for (event_type, since), _ in self._reading:
            kept = self._bounds.of(event_type)
            assert kept is not None
            keys += [bulk(self._channels.hash_of(event_type)), bulk(self._channels.list_of(event_type))]
            arguments += [*_words(since), bulk(b"%d" % kept.count)]
        self._metrics.history_reads += len(self._reading)
        publisher.put_script(self._call(READ, keys, arguments), self._read)

    def _read(self, reply: list[Any] | NexusError) -> None:
        reading, self._reading = self._reading, []
        if isinstance(reply, NexusError):
            for _, waiters in reading:
                for waiter in waiters:
                    guarded(waiter, reply)
            self._fail(reply)
            return
        now, *answers = reply
        # Requests that Redis left out because the answer was long enough are first in the next call.
        left = dict(reading[len(answers) :])
        for request, waiters in self._waiting.items():
            left.setdefault(request, []).extend(waiters)
        self._waiting = left
        for ((event_type, since), waiters), answer in zip(reading, answers, strict=False):
            missed = self._missed(event_type, since, int(now), answer)
            self._metrics.history_gaps += not missed.recovered
            for waiter in waiters:
                guarded(waiter, missed)
        self._begin()

    def _missed(self, event_type: str, since: Position, now: int, answer: Sequence[Any]) -> Missed:
        epoch, offset, whole, entries = answer
        top = Position(epoch.decode(), int(offset))
        if not whole:
            return Missed(False, top)
        events = stored(since.offset + 1, entries)
        kept = self._bounds.of(event_type)
        assert kept is not None
        if events and (
            events[0].millis < now - kept.age * 1000
            or sum([len(event.data) + len(event.metadata) for event in events]) > kept.bytes
        ):
            return Missed(False, top)
        return Missed(True, top, events)

    def _fail(self, error: NexusError) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiters in waiting.values():
            for waiter in waiters:
                guarded(waiter, error)


def _words(since: Position) -> list[bytes]:
    """Return timeline, birth and offset of a position."""
    timeline, _, birth = since.epoch.partition(".")
    return [bulk(timeline.encode()), bulk(birth.encode()), bulk(b"%d" % since.offset)]
