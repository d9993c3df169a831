"""A bus with a history whose every step the test takes: what is published, what arrives, when the history is read and answers.

As over Redis, live events and answers come on connections of their own, so each may overtake the other. Events can be dropped,
the history trimmed, forgotten or rolled back, the bus lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from zope.interface import implementer

from nexus_tw.interfaces.plugins import IHistory
from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Missed, Position, Stored
from tests.fakes import AWAY, HandBus

Ask = tuple[Callable[[], Any], Callable[[Any], None]]


class Log:
    """One type: what is kept, and where its epochs ended."""

    def __init__(self, event_type: str, timeline: str) -> None:
        self.event_type = event_type
        self.birth = timeline
        self.epoch = f"{timeline}.{event_type}"
        self.ends: dict[str, int] = {}  # the last offset of each earlier epoch that is still true
        self.kept: list[Stored] = []
        self.top = 0

    def append(self, data: bytes, metadata: bytes) -> Position:
        self.top += 1
        self.kept.append(Stored(self.top, data, 0, metadata))
        return Position(self.epoch, self.top)

    def read(self, since: Position) -> Missed:
        top = Position(self.epoch, self.top)
        end = self.top if since.epoch == self.epoch else self.ends.get(since.epoch, -1)
        if end < 0 and not since.offset and since.epoch.partition(".")[0] == self.birth and not self.ends:
            end = 0
        first = self.top - len(self.kept)
        if not first <= since.offset <= end:
            return Missed(False, top)
        return Missed(True, top, [stored for stored in self.kept if stored.offset > since.offset])


@implementer(IHistory)
class HandHistory:
    """Answers what the test lets it answer."""

    def __init__(self) -> None:
        self.logs: dict[str, Log] = {}
        self.timeline = "t0"
        self.none: set[str] = set()  # types without history
        self.asked: deque[Ask] = deque()  # not read yet
        self.answers: deque[tuple[Any, Callable[[Any], None]]] = deque()  # read, but on their way
        self.at_once = True
        self.reads: list[Sequence[tuple[str, Position]]] = []
        self.available = True
        self.most = 1000

    def log(self, event_type: str) -> Log:
        if event_type not in self.logs:
            self.logs[event_type] = Log(event_type, self.timeline)
        return self.logs[event_type]

    def tops(self, types: Sequence[str], done: Callable[[dict[str, Position] | NexusError], None]) -> None:
        def look() -> dict[str, Position]:
            logs = [self.log(name) for name in types if name not in self.none]
            return {log.event_type: Position(log.epoch, log.top) for log in logs}

        self._ask(look, done)

    def known(self, pattern: Pattern, done: Callable[[dict[str, Position] | NexusError], None]) -> None:
        def look() -> dict[str, Position] | NexusError:
            logs = [log for name, log in self.logs.items() if pattern.matches(name) and pattern.selects(name)]
            if len(logs) > self.most:
                return NexusError("limit_exceeded", "too many types")
            return {log.event_type: Position(log.epoch, log.top) for log in logs}

        self._ask(look, done)

    def read(self, requests: Sequence[tuple[str, Position]], done: Callable[[list[Missed] | NexusError], None]) -> None:
        self.reads.append(requests)
        self._ask(lambda: [self.log(name).read(since) for name, since in requests], done)

    def page(self, event_type: str, since: Position | None, limit: int, done: Callable[[Missed | NexusError], None]) -> None:
        raise AssertionError("not asked by those who subscribe")

    # --- what the test says

    def look(self) -> None:
        """The oldest question is answered, but the answer is on its way."""
        if self.asked:
            look, done = self.asked.popleft()
            self.answers.append((look(), done))

    def answer(self) -> None:
        """The oldest answer arrives."""
        if self.answers:
            answer, done = self.answers.popleft()
            done(answer)

    def settle(self) -> None:
        """All answers arrive."""
        while self.asked or self.answers:
            self.look()
            self.answer()

    def cut(self) -> None:
        """The bus is lost: so are the answers."""
        self.available = False
        waiting = [*self.answers, *self.asked]
        self.asked.clear()
        self.answers.clear()
        for _, done in waiting:
            done(AWAY)

    def trim(self, event_type: str, count: int) -> None:
        """The oldest events of a type are dropped."""
        del self.log(event_type).kept[:count]

    def restart(self, timeline: str, lost: int = 0) -> None:
        """Another timeline begins, without the last events of each type."""
        self.timeline = timeline
        for log in self.logs.values():
            gone = min(lost, len(log.kept))
            del log.kept[len(log.kept) - gone :]
            log.top -= gone
            log.ends[log.epoch] = log.top
            log.ends = {epoch: min(end, log.top) for epoch, end in log.ends.items()}
            log.epoch = f"{timeline}.{log.event_type}"

    def forget(self, timeline: str) -> None:
        """All is lost, epochs included."""
        self.timeline = timeline
        self.logs.clear()

    def _ask(self, look: Callable[[], Any], done: Callable[[Any], None]) -> None:
        if not self.available:
            done(AWAY)
        elif self.at_once:
            done(look())
        else:
            self.asked.append((look, done))


class HistoryBus(HandBus):
    """What is published has a position at once, and arrives when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.past = HandHistory()
        self.history = self.past
        self.live: deque[tuple[str, bytes, bytes, Position | None]] = deque()
        self._numbers = count(1)

    def put(self, event_type: str, data: bytes = b"", metadata: bytes = b"") -> Position | None:
        """Somebody publishes."""
        data = data or b"%d" % next(self._numbers)
        position = None if event_type in self.past.none else self.past.log(event_type).append(data, metadata)
        if self.available and any(Pattern.parse(text).matches(event_type) for text in self.subscribed):
            self.live.append((event_type, data, metadata, position))
        return position

    def arrive(self, most: int = 1 << 30) -> None:
        """So many live events arrive."""
        while self.live and most:
            most -= 1
            assert self.listener is not None
            self.listener.event(*self.live.popleft())

    def lose(self) -> None:
        if self.available:
            self.available = False
            self.live.clear()
            self.past.cut()
            assert self.listener is not None
            self.listener.lost()

    def restore(self) -> None:
        if not self.available:
            self.available = self.past.available = True
            assert self.listener is not None
            self.listener.restored()
