"""Recovery: finds a subscriber's start in the history of its types, and delivers the events that it missed before.

Once the bus's subscriptions are active, the node requests the positions of all subscribed types. If the client gives its last
positions (`since`), the history is read from there; events that pass meanwhile are recorded. Then the client is told its
positions, gets exactly the events that it missed, then the recorded ones, and joins its cohort at the cursor of each type:
without gap or duplicate, in order. If any missed event of a type is gone, the client is told so and gets none of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

from twisted.internet.interfaces import IReactorTime

from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.interfaces.realm import Placed
from nexus_tw.model.errors import INTERNAL, NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern, is_reserved
from nexus_tw.model.positions import NOWHERE, Position
from nexus_tw.pubsub.cursor import Cursor
from nexus_tw.pubsub.cursors import Cursors
from nexus_tw.pubsub.fan import Fan
from nexus_tw.pubsub.joining import Joining
from nexus_tw.pubsub.reading import NO_EPOCH, Catalogue, Past, Reads, likest
from nexus_tw.pubsub.recorders import BYTES, Gap, Recorder, Recorders, type_of
from nexus_tw.pubsub.replay import Replay
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.spread import Spread

UNSEEN: Final = 1024  # types unknown to one subscriber whose beginnings are read; for others a gap is reported
WITNESSES: Final = 8  # epochs of a subscriber that reveal whether it has seen a type
TRIES: Final = 3  # reads of one type for one subscriber

AWAY: Final = NexusError("bus_unavailable", "The event bus is away")

_TOLD: Final = -1  # of a broken recorder: the gap was reported to the peer
_guarded: Final = Guard(__name__, "A subscriber could not be given its place in the history")


class Recovery:
    """Brings subscribers to their places in the history."""

    def __init__(
        self,
        bus: IBus,
        cursors: Cursors,
        reads: Reads,
        recorders: Recorders,
        spread: Spread,
        clock: IReactorTime,
        metrics: Metrics,
    ) -> None:
        self.bus = bus
        self.cursors = cursors
        self.reads = reads
        self.recorders = recorders
        self.spread = spread
        self.clock = clock
        self.metrics = metrics
        self.catalogue = Catalogue(bus)
        self.attempts: dict[Peer, _Attempt] = {}

    def gone(self, peer: Peer) -> None:
        """The peer has left: record nothing more for it, as its subscriptions on the bus may end now."""
        if peer in self.attempts:
            self.attempts[peer].leave()

    def begin(self, joining: Joining) -> bool:
        """Have the peer join. Return True if that is done already; otherwise `over` is called once it is."""
        since = joining.since
        if since is not None and not self.bus.available:
            joining.fail(AWAY)
            return True
        if self.bus.history is None or not self.bus.available:
            self.cursors.unplaced.update(pattern.text for pattern in joining.patterns if self.bus.history is not None)
            lost = None if since is None else {name: False for name in since if joining.covers(name)}
            joining.finish(Placed(None, lost))
            return True
        patterns = [pattern for pattern in joining.patterns if not is_reserved(pattern.text)]
        if since is None and all(pattern.exact for pattern in patterns):
            known = [self.cursors.get(pattern.text) for pattern in patterns]
            found = [cursor for cursor in known if cursor is not None]
            if len(found) == len(known) and all(cursor.known for cursor in found):
                joining.finish(Placed({cursor.event_type: cursor.position for cursor in found}))
                return True
        attempt = self.attempts[joining.peer] = _Attempt(self, joining, patterns)
        if not _guarded(attempt.begin):
            attempt.give_up()
        return attempt.done


class _Attempt:
    """The recovery of one subscriber."""

    def __init__(self, recovery: Recovery, joining: Joining, patterns: list[Pattern]) -> None:
        self._recovery = recovery
        self._cursors = recovery.cursors
        self._metrics = recovery.metrics
        self._joining = joining
        self._patterns = patterns
        self._replay = Replay(joining, recovery.spread, recovery.clock, recovery.metrics)
        self._recorders: dict[Recorder, int] = {}  # and how many entries of each are done with
        self._recorded: list[Pattern] = []
        self._since: dict[str, Position] = {}
        self._followed: dict[str, Position] = {}  # those of them that an earlier subscription of the peer gives it
        self._without: list[str] = []  # types that have no history
        self._tops: dict[str, Position] = {}  # of types that are subscribed to without `since`
        self._pasts: dict[str, Past] = {}
        self._tries: dict[str, int] = {}
        self._left = 0  # outstanding answers
        self._held: list[Past] = []
        self._told = False  # the client was answered
        self._returned = False
        self.done = False

    def begin(self) -> None:
        joining, recovery = self._joining, self._recovery
        history = recovery.bus.history
        assert history is not None
        self._record(self._patterns)
        if joining.since is not None:
            covered = {name: place for name, place in joining.since.items() if joining.covers(name)}
            for name, place in covered.items():
                if not is_reserved(name):
                    (self._followed if joining.holding.follows(name) else self._since)[name] = place
            self._without = [name for name in covered if is_reserved(name)]
        exact = [pattern.text for pattern in self._patterns if pattern.exact]
        placed = dict.fromkeys((*self._followed, *exact))
        named = [name for name in placed if name not in self._since and self._cursors.get(name) is None]
        wild = [pattern for pattern in self._patterns if not pattern.exact]
        self._left = 1 + bool(named) + len(wild) + len(self._since)
        for name in self._since:
            self._read(name)
        for pattern in wild:
            recovery.catalogue.ask(pattern, partial(self._known, pattern))
        if named:
            history.tops(named, self._named)
        self._answered()
        self._returned = True

    def _record(self, patterns: Iterable[Pattern]) -> None:
        """Record from now on what passes under these patterns."""
        recorders = self._recovery.recorders
        for pattern in patterns:
            self._recorded.append(pattern)
            recorder = recorders.begin(pattern)
            if recorder in self._recorders:
                recorders.end(recorder)
            else:
                self._recorders[recorder] = len(recorder.entries)

    def leave(self) -> None:
        """The peer is gone; one that is being given what it missed is found gone at the next step."""
        if not self.done and not self._told:
            self._end()  # first: what is released drops cursors, and an answer that waited for one comes at once
            self._joining.join()

    def give_up(self) -> None:
        """Tell the client that its request failed."""
        self._stop_recording()
        if not self._told:
            self._joining.fail(NexusError("internal", "Something went wrong in the server"))
        self._end()

    # --- answers

    def _named(self, tops: dict[str, Position] | NexusError) -> None:
        if self.done:
            return
        if isinstance(tops, NexusError):
            self._away(tops)
        else:
            self._tops.update(tops)
            self._answered()

    def _known(self, pattern: Pattern, known: dict[str, Position] | NexusError) -> None:
        if self.done:
            return
        if isinstance(known, NexusError):
            if known.code == "bus_unavailable" or self._joining.since is not None:
                self._away(known)
                return
            self._cursors.whole = False  # some types have no cursor
            known = {}
        given = self._joining.since
        asked = (self._since, self._followed, {pattern.text for pattern in self._patterns})
        unseen = {name: top for name, top in known.items() if not any(name in names for names in asked)}
        if given is None:
            self._tops.update(known)
            unseen = {}
        epochs = list(dict.fromkeys(place.epoch for place in (given or {}).values()))[-WITNESSES:]
        for count, (name, top) in enumerate(unseen.items()):
            epoch = likest(epochs, top.epoch) if count < UNSEEN else NO_EPOCH
            if self._joining.holding.follows(name):
                self._tops[name], self._followed[name] = top, Position(epoch, 0)
            else:
                self._since[name] = Position(epoch, 0)
                self._left += 1
                self._read(name)
        self._answered()

    def _read(self, name: str) -> None:
        self._tries[name] = self._tries.get(name, 0) + 1
        self._recovery.reads.ask(name, self._since[name], partial(self._was_read, name))

    def _was_read(self, name: str, past: Past | NexusError) -> None:
        if self.done:
            return
        if isinstance(past, NexusError):
            self._away(past)
            return
        if past.top == NOWHERE:
            del self._since[name]
            self._without.append(name)
        else:
            self._pasts[name] = past
        self._answered()

    def _away(self, error: NexusError) -> None:
        """End with this error: the bus was lost, or has no answer."""
        if self._joining.since is None:
            self._cursors.unplaced.update(pattern.text for pattern in self._patterns)
            self._stop_recording()
            self._joining.finish(Placed())
        else:
            self._stop_recording()
            self._joining.fail(error)
        self._end()

    def _answered(self) -> None:
        self._left -= 1
        if not self._left and not self.done and not _guarded(self._place):
            self.give_up()

    # --- the place

    def _place(self) -> None:
        """Give the peer its place, now that all answers are there; or read types again that have changed meanwhile."""
        if not self._joining.present():
            self._end()
            self._joining.join()
            return
        again = [name for name in self._since if not self._is_settled(name)]
        if again:
            self._left = len(again)
            for name in again:
                cursor = self._cursors.get(name)
                if cursor is None:
                    self._read(name)
                else:
                    self._cursors.filler.fill(cursor, partial(self._retry, name))
            return
        exact = [pattern.text for pattern in self._patterns if pattern.exact]
        names = dict.fromkeys((*self._since, *self._followed, *self._tops, *exact))
        cursors = [cursor for name in names if (cursor := self._cursors.get(name)) is not None]
        nowhere = [cursor for cursor in cursors if not cursor.known]
        if nowhere:  # it will be known once the gap is filled, or told
            self._left = len(nowhere)
            for cursor in nowhere:
                self._cursors.filler.fill(cursor, self._answered)
            return
        positions: dict[str, Position] = {}
        recovered = dict.fromkeys(self._without, False)
        missed: list[Fan | Gap] = []
        holding = self._joining.holding
        for name, since in self._since.items():
            events = self._missed(name)
            recovered[name] = events is not None
            positions[name] = self._begins(name) if events is not None else self._cursor(name, self._pasts[name].top).position
            missed += events or ()
            if events is not None:
                holding.remember(name, since)
        for name, top in self._tops.items():
            positions[name] = self._cursor(name, top).position
        for name in (*self._followed, *exact):
            cursor = self._cursors.get(name)
            if cursor is not None and name not in positions:
                positions[name] = cursor.position
        for name, since in self._followed.items():
            recovered[name] = name in positions and (positions[name] == since or holding.has_had(name, since))
            if recovered[name]:
                holding.remember(name, since)
        self._born(positions, recovered, missed)
        unknown = [Gap(one.pattern.text, None) for one in self._recorders if one.broken and not one.pattern.exact]
        if missed:
            self._record(holding.pause())
        for recorder in self._recorders:
            self._recorders[recorder] = len(recorder.entries)
        placed = Placed(positions, None if self._joining.since is None else recovered)
        self._metrics.recoveries["complete"] += sum(recovered.values())
        self._metrics.recoveries["incomplete"] += len(recovered) - sum(recovered.values())
        if missed:
            self._told = True
            self._joining.ok(placed)
            self._replay.begin([*unknown, *missed], self._passed, self._replayed)
        else:
            self._told = True
            self._stop_recording()
            self._joining.finish(placed)
            if unknown and self._joining.present():
                self._joining.peer.deliver(b"".join(map(self._replay.frame, unknown)))
            self._end()

    def _retry(self, name: str) -> None:
        if not self.done:
            self._read(name)

    def _cursor(self, name: str, top: Position) -> Cursor:
        return self._cursors.get(name) or self._cursors.place_at_top(name, top)

    def _is_settled(self, name: str) -> bool:
        """Bring the cursor of a type up to the end of what was read. Return False if it has to be read again."""
        past, cursor = self._pasts[name], self._cursors.get(name)
        if not past.recovered or self._tries[name] >= TRIES:
            return True
        if cursor is None:
            return self._cursors.place_at_top(name, past.top).filling is None
        if cursor.epoch != past.top.epoch or (cursor.filling and cursor.offset < past.top.offset):
            return False
        if cursor.offset >= past.top.offset:
            return self._since_then(name, cursor) is not None
        if cursor.offset < self._since[name].offset:
            return False
        self._cursors.advance(cursor, past)
        return True

    def _since_then(self, name: str, cursor: Cursor) -> list[Fan | Gap] | None:
        """Return the recorded entries of a type between the end of the read and the cursor; None if they are incomplete."""
        top, count = self._pasts[name].top, cursor.offset - self._pasts[name].top.offset
        if not count:
            return []
        recorded = self._recorder(name).types.get(name, [])
        offsets = [place for place, entry in enumerate(recorded) if _is_at(entry, Position(top.epoch, top.offset + 1))]
        if not offsets:
            return None
        then = recorded[offsets[-1] :]
        placed = sum(isinstance(entry, Fan) and entry.event.position is not None for entry in then)
        return then if placed == count else None

    def _missed(self, name: str) -> list[Fan | Gap] | None:
        """Return the events that the peer missed; None if any are gone."""
        past, cursor = self._pasts[name], self._cursors.get(name)
        if not past.recovered or cursor is None or cursor.epoch != past.top.epoch:
            return None
        then = self._since_then(name, cursor) if cursor.offset >= past.top.offset else None
        if then is None or not self._hold(past):
            return None
        return [*(fan or Gap(name, Position(past.top.epoch, at)) for at, fan in past.fans()), *then]

    def _hold(self, past: Past) -> bool:
        """Keep the read events until the peer has received them, if there is room. Return whether there is."""
        if not past.held and past.size:
            if self._metrics.recovery_buffered + past.size > BYTES:
                self._metrics.recovery_overflows += 1
                return False
            self._metrics.recovery_buffered += past.size
        past.held += 1
        self._held.append(past)
        return True

    def _begins(self, name: str) -> Position:
        """Return the position before the first event that the peer gets."""
        top = self._pasts[name].top
        first = next(self._pasts[name].fans(), None)
        return top if first is None else Position(top.epoch, first[0] - 1)

    def _born(self, positions: dict[str, Position], recovered: dict[str, bool], missed: list[Fan | Gap]) -> None:
        """Add types whose first event came after their names were requested."""
        for recorder in self._recorders:
            if recorder.pattern.exact:
                continue
            for name, events in recorder.types.items():
                cursor = self._cursors.get(name)
                if cursor is None or name in positions:
                    continue
                if self._joining.since is None:
                    positions[name] = cursor.position
                    continue
                if self._joining.holding.follows(name):
                    recovered[name] = self._joining.holding.has_all(name)
                    positions[name] = cursor.position
                    continue
                recovered[name] = _is_at(events[0], Position(cursor.epoch, 1))
                positions[name] = Position(cursor.epoch, 0) if recovered[name] else cursor.position
                missed += events if recovered[name] else ()

    def _replayed(self) -> None:
        """Join: the peer has all events that it missed."""
        self._stop_recording()
        try:
            if self._joining.join():
                self._joining.joined()
        except Exception:
            self._joining.peer.close(INTERNAL)  # it gets no more events
            raise
        finally:
            self._end()

    def _passed(self) -> list[Fan | Gap]:
        """Return the entries recorded since the last call."""
        passed: list[Fan | Gap] = []
        for recorder, start in self._recorders.items():
            if not recorder.broken:
                entries = recorder.entries[start:]
                passed += (entry for entry in entries if self._recorder(type_of(entry)) is recorder)
                self._recorders[recorder] = len(recorder.entries)
            elif start != _TOLD:
                cursor = self._cursors.get(recorder.pattern.text)
                passed.append(Gap(recorder.pattern.text, None if cursor is None else cursor.position))
                self._recorders[recorder] = _TOLD
        return passed

    def _recorder(self, name: str) -> Recorder:
        """Return the recorder of a type for this subscriber: the first whose pattern selects it."""
        return next(one for one in self._recorders if one.pattern.matches(name) and one.pattern.selects(name))

    # ---

    def _stop_recording(self) -> None:
        recorders, self._recorders = self._recorders, {}
        for recorder in recorders:
            self._recovery.recorders.end(recorder)

    def _end(self) -> None:
        if self.done:
            return
        self.done = True
        self._recovery.attempts.pop(self._joining.peer, None)
        self._stop_recording()
        if not self._joining.present():
            self._cursors.tidy(self._recorded)
        for past in self._held:
            past.held -= 1
            if not past.held:
                self._metrics.recovery_buffered -= past.size
        self._held = []
        if self._returned:
            self._joining.over()


def _is_at(entry: Fan | Gap, position: Position) -> bool:
    """Return whether this is the event at that position."""
    return isinstance(entry, Fan) and entry.event.position == position
