"""Replay: delivers the missed events to a peer, and those that pass meanwhile, in steps and only as fast as it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nexus_tw.model.errors import INTERNAL
from nexus_tw.model.events import Event
from nexus_tw.model.filters import Facts
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import EVERYTHING
from nexus_tw.model.notices import ContinuityNotice
from nexus_tw.pubsub.fan import Fan
from nexus_tw.pubsub.groups import Bucket
from nexus_tw.pubsub.joining import Joining
from nexus_tw.pubsub.recorders import Gap
from nexus_tw.runtime.spread import Spread

STEP: Final = 65536  # bytes of missed events that a peer gets in one step
PAUSE: Final = 0.05  # seconds until it is checked again whether a peer has read
PATIENCE: Final = 200  # checks, after which it gets the next step anyway, and is closed if that is too much

_NOBODY: Final = Bucket(EVERYTHING, 0, 0)  # a recovering peer gets an event once, not once for each subscription

_log: Final = Logger()

Missed = list[Fan | Gap]


class Replay:
    """The delivery of missed events to one peer that subscribes."""

    def __init__(self, joining: Joining, spread: Spread, clock: IReactorTime, metrics: Metrics) -> None:
        self._joining = joining
        self._spread = spread
        self._clock = clock
        self._metrics = metrics

    def begin(self, missed: Missed, passed: Callable[[], Missed], done: Callable[[], None]) -> None:
        """Deliver these, then what `passed` returns, until that is nothing. Then call `done`, also if the peer has gone or was
        closed."""
        self._spread.work(self._run(self._replay(missed, passed, done)))

    def frame(self, entry: Fan | Gap, passed: bool = False) -> bytes:
        """Return what the peer gets of this, or b"" if it gets nothing. Unless it has `passed` during the replay, the earlier
        subscriptions of the peer have delivered what they select."""
        encoding = self._joining.peer.encoding
        if isinstance(entry, Gap):
            return encoding.notice(ContinuityNotice(entry.event_type, entry.position))
        event = entry.event
        rule = None if event.metadata is None else event.metadata.rule
        if rule is not None and not rule.admits(self._joining.peer):
            return b""
        try:
            if not self._wants(event, passed):
                return b""
            frame = entry.frame(encoding, _NOBODY)
        except Exception:
            _log.failure("An event that a client missed could not be encoded")
            return entry.gap(encoding)
        if frame:
            self._metrics.events_replayed += 1
        return frame

    def _wants(self, event: Event, passed: bool) -> bool:
        joining, condition = self._joining, self._joining.condition
        if condition is None and joining.covers(event.type):
            return True
        facts = Facts(event.payload.value)
        if condition is not None and condition.matches(facts) and joining.covers(event.type):
            return True
        return passed and joining.holding.wants(event.type, facts)

    def _run(self, steps: Iterator[bool]) -> Iterator[None]:
        """Run these steps; a step that yields True requests a pause."""
        for pause in steps:
            if pause:
                self._clock.callLater(PAUSE, lambda: self._spread.work(self._run(steps)))
                return
            yield

    def _replay(self, missed: Missed, passed: Callable[[], Missed], done: Callable[[], None]) -> Iterator[bool]:
        try:
            yield from self._deliver(missed, False)
            while self._joining.present() and (more := passed()):
                yield from self._deliver(more, True)
        except Exception:
            self._joining.peer.close(INTERNAL)  # it has lost events
            raise
        finally:
            done()

    def _deliver(self, missed: Missed, passed: bool) -> Iterator[bool]:
        """Deliver these to the peer as it reads, unless it goes. Yield True to wait for it."""
        joining = self._joining
        for frames in self._frames(missed, passed):
            looks = 0
            while joining.present() and not joining.peer.room(len(frames)) and looks < PATIENCE:
                looks += 1
                yield True
            if not joining.present():
                return
            joining.peer.deliver(frames)
            yield False

    def _frames(self, missed: Missed, passed: bool) -> Iterator[bytes]:
        """Yield the frames of what the peer gets of this, some together; of what has `passed`, by all its subscriptions."""
        frames: list[bytes] = []
        size = 0
        for entry in missed:
            frame = self.frame(entry, passed)
            frames.append(frame)
            size += len(frame)
            if size >= STEP:
                yield b"".join(frames)
                frames, size = [], 0
        if size:
            yield b"".join(frames)
