"""The events that a node publishes in a turn of the reactor, for one call of the script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import count
from secrets import token_hex
from typing import Any, Final

from nexus_tw.bus.bounds import Bound, Bounds
from nexus_tw.bus.redis.channels import KEPT, Channels
from nexus_tw.bus.redis.connection import guarded, refused
from nexus_tw.bus.redis.scripts import PUBLISH, Call, bulk
from nexus_tw.bus.redis.twins import lengths
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import account_retaining
from nexus_tw.model.positions import Position

# Redis does nothing else while it carries out a script.
MAX_EVENTS: Final = 256
MAX_BYTES: Final = 4194304

DAY: Final = 86400000  # ms

# Random once: to ask the system for each call would cost more than all else that is said of its birth.
_PROCESS: Final = token_hex(4).encode()
_births: Final = count()

Done = Callable[[Position | NexusError | None], None]


def words_of(kept: Bound, total: int) -> bytes:
    """Return the bounds of a type and of all types together, in the scripts' format."""
    return b"%d,%d,%d,%d" % (kept.count, kept.age * 1000, kept.bytes, total)


def new_birth() -> bytes:
    """Return a unique name for the birth of a type, in case the call creates one; a script may append a number to it."""
    return b"%b%x-" % (_PROCESS, next(_births))


class Form:
    """Writes calls of the script."""

    def __init__(self, channels: Channels, bounds: Bounds, retained: Callable[[int, int, int], None]) -> None:
        """`retained` gets number and bytes of the retained events after some were published, and how many had to go."""
        self.retained = retained
        self._channels = channels
        self._bounds = bounds
        self._call = Call(PUBLISH, channels.prefix, b"")
        self._heads = lru_cache(maxsize=KEPT)(self._head)

    def opened(self, timeline: bytes) -> None:
        """Write under this timeline from now on."""
        self._call = Call(PUBLISH, self._channels.prefix, timeline)

    def command(self, runs: Sequence[_Run]) -> bytes:
        """Return the call that publishes these."""
        keys, words, place = [], [bulk(new_birth())], 1
        retained: list[bytes] = []
        for number_of_run, run in enumerate(runs, 1):
            if run.retain is not None:
                # The script counts from 1, and two words and five more of the run come before the first data.
                numbers = (number_of_run, run.retain, place + 8 + run.retain, self._kept_for(run.event_type))
                retained += [*(bulk(b"%d" % each) for each in numbers), bulk(run.said[run.retain])]
            key_words, head = self._heads(run.event_type)
            keys.append(key_words)
            number = b"%d" % len(run.data)
            words += (head, bulk(b"%d" % run.size), bulk(number))
            words += [b"$%d\r\n%b\r\n" % (len(data), data) for data in run.data]
            words.append(bulk(lengths(run.said)))
            place += 6 + len(run.data)
        words += retained
        return self._call.written(2 * len(runs), b"".join(keys), place + len(retained), b"".join(words))

    def _kept_for(self, event_type: str) -> int:
        """Return how many ms a retained event of the type is kept: as long as the state of its history, at least."""
        kept = self._bounds.of(event_type)
        assert kept is not None
        return max(DAY, int(2 * kept.age * 1000))

    def _head(self, event_type: str) -> tuple[bytes, bytes]:
        """Return the keys of a type, and the words at the start of each of its runs."""
        names, kept = self._channels, self._bounds.of(event_type)
        assert kept is not None
        name = event_type.encode()
        bounds = words_of(kept, self._bounds.total)
        head = bulk(names.metadata + name) + bulk(names.events + name) + bulk(bounds)
        return bulk(names.hash_of(event_type)) + bulk(names.list_of(event_type)), head


class _Run:
    """Consecutive events of one type."""

    __slots__ = ("data", "done", "event_type", "retain", "said", "size")

    def __init__(self, event_type: str) -> None:
        self.event_type = event_type
        self.data: list[bytes] = []
        self.said: list[bytes] = []
        self.done: list[Done] = []
        self.retain: int | None = None  # the place of the last one that is to be retained
        self.size = 0


class Batch:
    """Events in their order, for one call."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._runs: list[_Run] = []
        self._count = 0
        self._size = 0

    def takes(self, size: int) -> bool:
        """Return whether there is room for an event of this size in bytes."""
        return self._count < MAX_EVENTS and (not self._count or self._size + size <= MAX_BYTES)

    def add(self, event_type: str, data: bytes, metadata: bytes, done: Done) -> None:
        if not self._runs or self._runs[-1].event_type != event_type:
            self._runs.append(_Run(event_type))
        run = self._runs[-1]
        if metadata and account_retaining(metadata) is not None:
            run.retain = len(run.data)
        run.data.append(data)
        run.said.append(metadata)
        run.done.append(done)
        size = len(data) + len(metadata)
        run.size += size
        self._size += size
        self._count += 1

    def command(self) -> bytes:
        return self._form.command(self._runs)

    def answered(self, reply: Any) -> None:
        """Report the outcome to each publisher."""
        if isinstance(reply, list) and len(reply) > len(self._runs):
            self._form.retained(*reply[len(self._runs) :])
        for number, run in enumerate(self._runs):
            if isinstance(reply, NexusError):
                error = reply
            else:
                text = reply[number].decode()
                if not text.startswith("-"):
                    epoch, _, offset = text.rpartition(":")
                    first = int(offset)
                    for place, done in enumerate(run.done):
                        guarded(done, Position(epoch, first + place))
                    continue
                error = refused(text[1:])
            for done in run.done:
                guarded(done, error)
