"""The plainest core that keeps the promises: it reads the history for every client and every event anew.

Against it the judge, the clients and the model of Redis are tested; it says whether a violation is the core's fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import Any, Final

import msgspec

from nexus_tw.interfaces.sessions import Link
from nexus_tw.model.errors import Close, NexusError
from nexus_tw.model.names import Pattern
from nexus_tw.model.policy import Principal
from nexus_tw.model.positions import Missed, Position
from nexus_tw.model.settings import History
from nexus_tw.protocols import frames
from tests.simulation.bus import SimulatedBus
from tests.simulation.clock import NodeClock
from tests.simulation.judge import Filter, fits
from tests.simulation.nodes import Core

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode

ANYWHERE: Final = Position("?", 0)


class ReferenceCore(Core):
    """Sessions that read, woken by what comes over the bus."""

    def __init__(self, bus: SimulatedBus, _clock: NodeClock, _chance: Random, _history: History, _grace: float) -> None:
        assert bus.history is not None
        self.bus = bus
        self.history = bus.history
        self.sessions: dict[ReferenceSession, None] = {}
        self._waiters: dict[str, list[Callable[[], None]] | None] = {}  # None once the subscription stands
        bus.start(self)

    def session(self, link: Link, principal: Principal) -> ReferenceSession:
        session = ReferenceSession(self, link, principal)
        self.sessions[session] = None
        return session

    def subscribe(self, patterns: Iterable[Pattern], done: Callable[[], None]) -> None:
        """What was once wanted stays so."""
        missing = 1

        def stands() -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                done()

        for pattern in patterns:
            waiters = self._waiters.setdefault(pattern.text, [])
            if waiters is None:
                continue
            missing += 1
            waiters.append(stands)
            if len(waiters) == 1:
                self.bus.subscribe(pattern, partial(self._stands, pattern.text))
        stands()

    def _stands(self, text: str) -> None:
        waiters, self._waiters[text] = self._waiters[text], None
        for waiter in waiters or ():
            waiter()

    # --- BusListener

    def event(self, event_type: str, data: bytes, metadata: bytes, position: Position | None = None) -> None:
        for session in self.sessions:
            if session.follows(event_type):
                if position is None:
                    if not self.bus.available:
                        session.tell(event_type, None)
                    session.hand(event_type, data, None)
                else:
                    session.wake(event_type, position)

    def message(self, body: bytes) -> None:
        pass

    def lost(self) -> None:
        pass

    def restored(self) -> None:
        for session in self.sessions:
            session.restored()


class ReferenceSession:
    """One client."""

    peer = client = None

    def __init__(self, core: ReferenceCore, link: Link, principal: Principal) -> None:
        self._core = core
        self._link = link
        self._principal = principal
        self._pairs: dict[str, tuple[Pattern, list[Filter]]] = {}
        self._places: dict[str, Position] = {}
        self._reading: dict[str, bool] = {}  # whether to read again after that
        self._unplaced: dict[str, Pattern] = {}

    def begin(self) -> None:
        self._send({"type": "connected"})

    def broken(self, payload: bytes) -> None:
        raise NotImplementedError

    def overran(self) -> None:
        raise NotImplementedError

    def farewell(self, close: Close) -> bytes:
        return frames.text(_encode({"type": "disconnect", "code": close.code}))

    def end(self) -> None:
        self._core.sessions.pop(self, None)

    def received(self, payload: bytes, is_binary: bool) -> None:
        message = _decode(payload)
        kind = message["type"]
        try:
            if kind == "subscribe":
                self._subscribe(message)
            elif kind == "unsubscribe":
                for text in message["events"]:
                    self._pairs.pop(text, None)
                for event_type in [one for one in self._places if not self.follows(one)]:
                    del self._places[event_type]
                self._send({"type": "unsubscribed", "id": message["id"]})
            elif kind == "publish":
                self._principal.require("publish", message["eventType"])
                self._core.bus.publish(message["eventType"], _encode(message["data"]), partial(self._published, message))
            else:
                self._send({"type": "pong", "id": message["id"]})
        except NexusError as error:
            self._fail(message, error)

    def _send(self, message: dict[str, Any]) -> None:
        self._link.write(frames.text(_encode(message)))

    def _fail(self, message: dict[str, Any], error: NexusError) -> None:
        self._send({"type": "error", "id": message["id"], "code": error.code, "message": error.message})

    def _published(self, message: dict[str, Any], position: Position | NexusError | None) -> None:
        if isinstance(position, NexusError):
            self._fail(message, position)
        else:
            self._send({"type": "published", "id": message["id"]} | ({"position": str(position)} if position else {}))

    # --- subscribing

    def _subscribe(self, message: dict[str, Any]) -> None:
        patterns = [Pattern.parse(text) for text in message["events"]]
        for pattern in patterns:
            self._principal.require_cover("subscribe", pattern)
        if "since" in message and not self._core.bus.available:
            raise NexusError("bus_unavailable", "The event bus is away")
        self._core.subscribe(patterns, lambda: self._find(patterns, partial(self._found, message, patterns)))

    def _find(self, patterns: list[Pattern], done: Callable[[dict[str, Position] | NexusError], None]) -> None:
        """The types that these stand for, and where each is."""
        wild = [pattern for pattern in patterns if not pattern.exact]
        found: dict[str, Position] = {}

        def add(part: dict[str, Position] | NexusError) -> None:
            if isinstance(part, NexusError):
                done(part)
                return
            found.update(part)
            if wild:
                self._core.history.known(wild.pop(), add)
            else:
                done(found)

        self._core.history.tops([pattern.text for pattern in patterns if pattern.exact], add)

    def _found(
        self, message: dict[str, Any], patterns: list[Pattern], found: dict[str, Position] | NexusError
    ) -> None:
        since = {name: Position.parse(text, "since") for name, text in message.get("since", {}).items()}
        if isinstance(found, NexusError):
            if since:
                self._fail(message, found)
            else:
                self._unplaced.update({pattern.text: pattern for pattern in patterns})
                self._placed(message, patterns, {}, [])
            return
        wanted = dict(since)
        for event_type in found if since else ():
            if event_type not in since and event_type not in message["events"]:
                wanted[event_type] = Position(next(iter(since.values())).epoch, 0)
        requests = list(wanted.items())

        def read(missed: list[Missed] | NexusError) -> None:
            if isinstance(missed, NexusError):
                self._fail(message, missed)
            else:
                self._placed(message, patterns, found, list(zip(requests, missed, strict=True)))

        if requests:
            self._core.history.read(requests, read)
        else:
            read([])

    def _placed(
        self,
        message: dict[str, Any],
        patterns: list[Pattern],
        found: dict[str, Position],
        missed: list[tuple[tuple[str, Position], Missed]],
    ) -> None:
        read = {event_type: one for (event_type, _), one in missed if event_type not in self._places}
        found = found | {event_type: _before(one) for event_type, one in read.items()} | {
            event_type: position for event_type, position in self._places.items()
            if any(pattern.matches(event_type) for pattern in patterns)
        }
        for event_type in found:
            if event_type not in read and event_type not in self._places and self.follows(event_type):
                found[event_type] = Position(found[event_type].epoch, 0)  # it arose since, and has yet to be read
        reply: dict[str, Any] = {"type": "subscribed", "id": message["id"]}
        reply["positions"] = {event_type: str(position) for event_type, position in found.items()}
        if "since" in message:
            born = [one for one in self._places if one in found and one not in message["events"]]
            reply["recovered"] = dict.fromkeys(born, True) | {event_type: one.recovered for (event_type, _), one in missed}
        self._send(reply)
        for pattern in patterns:
            _, filters = self._pairs.setdefault(pattern.text, (pattern, []))
            if message.get("filters") not in filters:
                filters.append(message.get("filters"))
        for event_type, one in read.items():
            self._replay(event_type, one)
        for event_type, position in found.items():
            self._places.setdefault(event_type, position)
            self.wake(event_type, ANYWHERE)
        self._look()  # for types that arose meanwhile

    # --- events

    def follows(self, event_type: str) -> bool:
        return any(pattern.matches(event_type) for pattern, _ in self._pairs.values())

    def hand(self, event_type: str, data: bytes, position: Position | None) -> None:
        value = _decode(data)
        for pattern, filters in self._pairs.values():
            if pattern.matches(event_type) and any(fits(one, value) for one in filters):
                message = {"type": "event", "eventType": event_type, "data": value}
                self._send(message | ({"position": str(position)} if position else {}))
                return

    def wake(self, event_type: str, position: Position) -> None:
        """There may be more of this type; it is now at that position."""
        if event_type not in self._places and any(one.matches(event_type) for one in self._unplaced.values()):
            return
        place = self._places.setdefault(event_type, Position(position.epoch, 0))
        if event_type in self._reading:
            self._reading[event_type] = True
        elif place != position:
            self._reading[event_type] = False
            self._core.history.read([(event_type, place)], partial(self._read, event_type, place))

    def _read(self, event_type: str, place: Position, missed: list[Missed] | NexusError) -> None:
        again = self._reading.pop(event_type)
        if isinstance(missed, NexusError):
            return
        if self._places.get(event_type) != place:
            if event_type in self._places:
                self.wake(event_type, ANYWHERE)
            return
        if not missed[0].recovered:
            self.tell(event_type, missed[0].top)
        self._replay(event_type, missed[0])
        if again:
            self.wake(event_type, ANYWHERE)

    def _replay(self, event_type: str, missed: Missed) -> None:
        self._places[event_type] = missed.top
        for event in missed.events:
            # An event under an earlier timeline has that in its position; what is told of it is where the reader is.
            self.hand(event_type, event.data, Position(missed.top.epoch, event.offset))

    def tell(self, event_type: str, position: Position | None, recovered: bool = False) -> None:
        message = {"type": "continuity", "eventType": event_type, "recovered": recovered}
        self._send(message | ({"position": str(position)} if position else {}))

    def restored(self) -> None:
        for pattern, _ in self._pairs.values():
            if not pattern.exact or pattern.matches("live.q"):
                self.tell(pattern.text, None)
        if self._unplaced:
            self._find(list(self._unplaced.values()), self._place)
        for event_type in list(self._places):
            self.wake(event_type, ANYWHERE)
        self._look()

    def _look(self) -> None:
        self._find([pattern for pattern, _ in self._pairs.values() if not pattern.exact], self._arisen)

    def _place(self, found: dict[str, Position] | NexusError) -> None:
        if isinstance(found, NexusError):
            return
        self._unplaced.clear()
        for event_type, position in found.items():
            if event_type not in self._places and self.follows(event_type):
                self._places[event_type] = position
                self.tell(event_type, position)
                self.wake(event_type, ANYWHERE)
            elif event_type in self._places:
                self.tell(event_type, self._places[event_type], True)
        self._look()

    def _arisen(self, found: dict[str, Position] | NexusError) -> None:
        """Types of which there was nothing when they were subscribed to."""
        if not isinstance(found, NexusError):
            for event_type, position in found.items():
                if event_type not in self._places and self.follows(event_type):
                    self.wake(event_type, position)


def _before(missed: Missed) -> Position:
    """The position from which on events come."""
    return missed.top._replace(offset=missed.events[0].offset - 1) if missed.events else missed.top
