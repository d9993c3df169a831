"""The ledger of commands over Redis: what a node writes in a turn of the reactor goes in one call of the script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.logger import Logger
from zope.interface import implementer

from nexus_tw.bus.bounds import Bounds
from nexus_tw.bus.ledger import given_up
from nexus_tw.bus.redis.batch import new_birth, words_of
from nexus_tw.bus.redis.channels import Channels
from nexus_tw.bus.redis.connection import Publisher, Put, away, guarded
from nexus_tw.bus.redis.connection import told as quoted
from nexus_tw.bus.redis.scripts import INHERIT, LEDGER, Call, bulk
from nexus_tw.interfaces.ledger import Entry, ILedger, Mark, Write
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.room import Lack, Room

# Redis does nothing else while it carries out a script.
MAX_OPERATIONS: Final = 256
MAX_EVENTS: Final = 1024
MAX_BYTES: Final = 4194304

ANSWER_BYTES: Final = 2097152  # of commands that an heir gets at once

UPDATED: Final = "task.updated"

_TAKE: Final = bulk(b"T")
_WRITE: Final = bulk(b"W")
_DROP: Final = bulk(b"D")
_FIND: Final = bulk(b"F")

Done = Callable[[Any], None]
Head = tuple[Sequence[bytes], Sequence[bytes]]  # the last keys, and the first arguments: of all operations together


class _Batch:
    """Operations in their order, for one call."""

    __slots__ = ("_call", "_counted", "_done", "_keys", "_last", "_words", "events", "size", "spent")

    def __init__(self, call: Call, head: Head, counted: Callable[[int, int, int, bytes], None]) -> None:
        self._call = call
        self._counted = counted
        self._last, words = head
        self._keys: list[bytes] = []
        self._words = list(words)
        self._done: list[tuple[Callable[[Any, int], Any], Done]] = []
        self.events = self.size = 0
        self.spent = False  # sent: it takes no more

    def takes(self, size: int, events: int) -> bool:
        """Return whether there is room for an operation of this size in bytes, with so many events."""
        if not self._done:
            return True
        full = self.spent or len(self._done) >= MAX_OPERATIONS
        return not full and self.size + size <= MAX_BYTES and self.events + events <= MAX_EVENTS

    def add(
        self, key: bytes, words: Sequence[bytes], size: int, events: int, answer: Callable[[Any, int], Any], done: Done
    ) -> None:
        """Add an operation. `answer` makes of Redis' answer, and of its time (ms), what `done` gets."""
        self._keys.append(bulk(key))
        self._words += words
        self._done.append((answer, done))
        self.size += size
        self.events += events

    def command(self) -> bytes:
        self.spent = True
        return self._call.command([*self._keys, *self._last], self._words)

    def answered(self, reply: Any) -> None:
        if isinstance(reply, NexusError):
            for _, done in self._done:
                guarded(done, reply)
            return
        now = int(reply[0])
        self._counted(*reply[len(self._done) + 1 :])
        for (answer, done), told in zip(self._done, reply[1:], strict=False):
            guarded(done, answer(told, now))


@implementer(ILedger)
class RedisLedger:
    """A node's ledger of a realm. What is written is in Redis as long as its data is."""

    lasting = tells = True
    notes = False

    _log = Logger()

    def __init__(
        self,
        channels: Channels,
        bounds: Bounds,
        metrics: Metrics,
        publisher: Callable[[], Publisher | None],
        room: Room,
    ) -> None:
        """`bounds` are those of histories. `publisher` returns the connection, or None while the bus is away."""
        self._channels = channels
        self._bounds = bounds
        self._metrics = metrics
        self._publisher = publisher
        self._room = room
        self.epoch = ""
        self._ledger = Call(LEDGER, channels.prefix, b"")
        self._complained = False
        self._inherit = Call(INHERIT, channels.prefix, b"")
        self._batch: _Batch | None = None
        self._on: Publisher | None = None  # where the batch is waiting
        self._put: Put | None = None
        self._kept = self._bytes = 0  # as this node counted them in the metrics

    def opened(self, timeline: bytes) -> None:
        """Call the script under this timeline from now on."""
        self.epoch = timeline.decode()
        self._ledger = Call(LEDGER, self._channels.prefix, timeline)

    # --- ILedger

    def take(self, entry: Entry, former: str, done: Callable[[Entry | NexusError | None], None]) -> None:
        def answer(told: Any, now: int) -> Entry | NexusError | None:
            if told == b"-":
                return given_up(entry.node)
            if told and told[:1] == b"!":
                self._metrics.shares_refused["ledger"] += 1
                return self._room.bounds.refusal(Lack(told[1:].decode()))
            return _entry(entry.command_id, told, now) if told else None

        marks = {place: mark.body for place, mark in entry.marks.items()}
        age = b"%d" % int(entry.age * 1000)
        head = (entry.node.encode(), former.encode(), entry.account.encode(), age, entry.head)
        self._add(_TAKE, entry.command_id, head, marks, answer, done, entry.events)

    def write(self, write: Write, done: Callable[[bool | NexusError | None], None]) -> None:
        words = (write.node.encode(), write.final, b"%d" % write.told)
        self._add(_WRITE, write.command_id, words, write.marks, _written, done, write.events)

    def drop(self, command_id: str, node: str, done: Callable[[NexusError | None], None]) -> None:
        self._add(_DROP, command_id, (node.encode(),), None, lambda _told, _now: None, done)

    def find(self, command_id: str, done: Callable[[Entry | NexusError | None], None]) -> None:
        self._add(_FIND, command_id, (), None, lambda told, now: _entry(command_id, told, now) if told else None, done)

    def inherit(
        self, left: str | None, node: str, most: int, done: Callable[[list[Entry] | NexusError], None]
    ) -> None:
        assert left is not None, "on a shared bus each node has one heir"
        publisher = self._publisher()
        if publisher is None:
            done(away())
            return

        def answered(reply: Any) -> None:
            if isinstance(reply, NexusError):
                done(reply)
            else:
                now = int(reply[0])
                done([_entry(name.decode(), told, now) for name, told in zip(reply[1::2], reply[2::2], strict=True)])

        words = (left.encode(), node.encode(), b"%d" % most, b"%d" % ANSWER_BYTES)
        publisher.put_script(self._inherit.command((), [bulk(word) for word in words]), answered)

    # ---

    def _add(
        self,
        kind: bytes,
        command_id: str,
        words: Sequence[bytes],
        marks: Mapping[int, bytes] | None,
        answer: Callable[[Any, int], Any],
        done: Done,
        events: Sequence[bytes] = (),
    ) -> None:
        publisher = self._publisher()
        if publisher is None or publisher.behind:
            done(away())
            return
        said = [kind, bulk(command_id.encode()), *[bulk(word) for word in words]]
        if marks is not None:
            said += [bulk(b"%d" % len(events)), *[bulk(event) for event in events]]
            said.append(bulk(b"%d" % len(marks)))
            for place, body in marks.items():
                said += (bulk(b"%d" % place), bulk(body))
        size = sum([len(word) for word in said])
        batch = self._batch
        if batch is None or self._on is not publisher or not batch.takes(size, len(events)):
            batch = self._batch = _Batch(self._ledger, self._head(), self._count)
            self._on, self._put = publisher, publisher.put_script(batch.command, batch.answered)
            self._metrics.ledger_scripts += 1
        assert self._put is not None
        publisher.grow(self._put, size)
        batch.add(self._channels.command_of(command_id), said, size, len(events), answer, done)

    def _head(self) -> Head:
        names, kept = self._channels, self._bounds.of(UPDATED)
        bounds = b"" if kept is None else words_of(kept, self._bounds.total)
        name = UPDATED.encode()
        words = new_birth(), names.metadata + name, names.events + name, bounds, b"%d %d %d %d" % self._room.bounds
        return [bulk(names.hash_of(UPDATED)), bulk(names.list_of(UPDATED))], [bulk(word) for word in words]

    def _count(self, kept: int, size: int, evicted: int, refused: bytes) -> None:
        """Count what is in Redis. Other realms count here, too."""
        if refused and not self._complained:
            self._complained = True
            self._log.warn("{kind} is not published: {why}", kind=UPDATED, why=quoted(refused.decode(errors="replace")))
        metrics = self._metrics
        metrics.ledger_commands += kept - self._kept
        metrics.ledger_bytes += size - self._bytes
        metrics.ledger_evicted += evicted
        self._kept, self._bytes = kept, size


def _written(told: Any, _now: int) -> bool | None:
    return {b"y": True, b"n": False}.get(told)


def _entry(command_id: str, told: list[bytes], now: int) -> Entry:
    """Return a command from the fields of its hash, at the time `now` (ms)."""
    fields = dict(zip(told[::2], told[1::2], strict=True))
    node, head, account = fields.pop(b"d"), fields.pop(b"h"), fields.pop(b"a")
    del fields[b"s"]
    began, final, events = int(fields.pop(b"t")), fields.pop(b"f", b""), int(fields.pop(b"e", 0))
    marks = {}
    for place, mark in fields.items():
        at, _, body = mark.partition(b" ")
        marks[int(place)] = Mark(body, max(0, now - int(at)) / 1000)
    age = max(0, now - began) / 1000
    return Entry(command_id, node.decode(), head, marks, final, age, account.decode(), events)
