"""A node's bus over the model of Redis: two connections, supervised as those of the real one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from nexus_tw.interfaces.ledger import ILedger
from nexus_tw.interfaces.plugins import BusListener, IAttendance, IBus, IClaims, IHistory, IRoll
from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Missed, Position
from tests.simulation.clock import NodeClock, Pipe, Time
from tests.simulation.server import OtherTimeline, Server, Subscriber
from tests.simulation.shared import SimulatedAttendance, SimulatedClaims, SimulatedLedger, SimulatedRoll

CANARY: Final = 0.5  # s
PATIENCE: Final = 2.0  # s for the canary to come back

Done = Callable[[Any], None]
Ask = Callable[[], Any]


def away() -> NexusError:
    return NexusError("bus_unavailable", "The event bus is away")


class Link:
    """From a node to the server: one connection to ask, another one on which messages come.

    Nothing orders what travels on the one with what travels on the other.
    """

    def __init__(self, bus: SimulatedBus, server: Server, time: Time, chance: Random, delay: float) -> None:
        self.timeline = ""
        self.over = False
        self._bus = bus
        self._server = server
        self._waiting: deque[Done] = deque()
        self._confirming: deque[Callable[[], None]] = deque()
        self._subscriber = Subscriber(bus.node, self._push)
        pipes = [
            Pipe(time, Random(chance.getrandbits(64)), delay, out)
            for out in (self._asked, self._answered, self._told, self._came)
        ]
        self.pipes = pipes
        self._up, self._down, self._sub_up, self._sub_down = pipes
        server.subscribers.append(self._subscriber)

    def ask(self, what: Ask, done: Done) -> None:
        self._waiting.append(done)
        self._up.put(what)

    def subscribe(self, pattern: Pattern | None, done: Callable[[], None]) -> None:
        """With None for the messages to this node."""
        self._confirming.append(done)
        self._sub_up.put((True, pattern))

    def unsubscribe(self, pattern: Pattern) -> None:
        self._sub_up.put((False, pattern))

    def stands(self, done: Callable[[], None]) -> None:
        """Calls `done` once all that is wanted is confirmed."""
        if not self._confirming:
            done()
            return
        last = self._confirming.pop()

        def confirmed() -> None:
            last()
            if not self.over:
                self.stands(done)

        self._confirming.append(confirmed)

    def cut(self) -> None:
        """Nothing comes through any more; the node does not know."""
        for pipe in self.pipes:
            pipe.cut()
        if self._subscriber in self._server.subscribers:
            self._server.subscribers.remove(self._subscriber)

    def end(self) -> None:
        """The node finds that it is over."""
        self.cut()
        self._bus.clock.do(self._ended)

    def _ended(self) -> None:
        if not self.over:
            self.over = True
            self._bus.down(self)
            while self._waiting:
                self._waiting.popleft()(away())
            while self._confirming:
                self._confirming.popleft()()

    # --- at the server

    def _asked(self, what: Ask) -> None:
        try:
            answer = what()
        except OtherTimeline as error:
            answer = error
        self._down.put(answer)

    def _told(self, what: tuple[bool, Pattern | None]) -> None:
        wanted, pattern = what
        if pattern is None:
            self._subscriber.open = True
        elif wanted:
            self._subscriber.patterns[pattern.text] = pattern
        else:
            self._subscriber.patterns.pop(pattern.text, None)
            return
        self._sub_down.put(("confirmed",))

    def _push(self, message: tuple[Any, ...]) -> None:
        self._sub_down.put(message)

    # --- at the node

    def _answered(self, answer: Any) -> None:
        self._bus.clock.do(partial(self._hand, answer))

    def _hand(self, answer: Any) -> None:
        if self.over:
            return
        if isinstance(answer, OtherTimeline):
            self.end()
        else:
            self._waiting.popleft()(answer)

    def _came(self, message: tuple[Any, ...]) -> None:
        self._bus.clock.do(partial(self._arrived, message))

    def _arrived(self, message: tuple[Any, ...]) -> None:
        if self.over:
            return
        if message[0] == "confirmed":
            self._confirming.popleft()()
        else:
            self._bus.arrived(message)

    def canary(self) -> None:
        """At the server: comes back as a message."""
        self._server.check(self.timeline)
        self._push(("canary",))


@implementer(IBus)
class SimulatedBus:
    """Holds on to a link, and makes another one for ever."""

    def __init__(
        self, node: str, clock: NodeClock, time: Time, server: Server, chance: Random, delay: float, fleet: bool
    ) -> None:
        """`fleet`: whether it carries what the nodes decide together."""
        self.node = node
        self.available = False
        self.clock = clock
        self.history: IHistory | None = SimulatedHistory(self, server)
        self.retained = None
        self.timeline = ""  # that of the last link
        self.roll: IRoll | None = SimulatedRoll(self, server) if fleet else None
        self.claims: IClaims | None = SimulatedClaims(self, server) if fleet else None
        self.ledger: ILedger | None = SimulatedLedger(self, server) if fleet else None
        self.attendance: IAttendance | None = SimulatedAttendance(self, server) if fleet else None
        self.reads = 0
        self.up_since = 0.0
        self.down_since = 0.0
        self.isolated = False  # the server cannot be reached from here
        self._time = time
        self._server = server
        self._chance = chance
        self._delay = delay
        self._listener: BusListener | None = None
        self._wanted: dict[str, Pattern] = {}
        self.link: Link | None = None
        self._failures = 0
        self._lost = False
        self._misses = 0
        self._timer: IDelayedCall | None = None

    # --- IBus

    def start(self, listener: BusListener) -> Deferred[None]:
        self._listener = listener
        self._lost = True
        listener.lost()
        self._connect()
        return succeed(None)

    def stop(self) -> Deferred[None]:
        raise NotImplementedError

    def publish(self, event_type: str, data: bytes, done: Done, metadata: bytes = b"") -> None:
        self.ask(lambda timeline: self._server.publish(timeline, event_type, data, metadata), done)

    def subscribe(self, pattern: Pattern, done: Callable[[], None]) -> None:
        assert pattern.text not in self._wanted, "called twice without `unsubscribe` between"
        self._wanted[pattern.text] = pattern
        link = self.link
        if link is not None and link.timeline:
            link.subscribe(pattern, done if self.available else _nothing)
        if not self.available:
            done()

    def unsubscribe(self, pattern: Pattern) -> None:
        del self._wanted[pattern.text]
        if self.link is not None and self.link.timeline:
            self.link.unsubscribe(pattern)

    def send(self, node: str | None, body: bytes, done: Callable[[int | NexusError], None]) -> None:
        self.ask(lambda _timeline: self._server.message(node, body), done)

    # ---

    def ask(self, what: Callable[[str], Any], done: Done) -> None:
        link = self.link
        if link is None or not self.available:
            done(away())
        else:
            link.ask(lambda: what(link.timeline), done)

    def arrived(self, message: tuple[Any, ...]) -> None:
        assert self._listener is not None
        if message[0] == "event":
            _, event_type, data, metadata, position = message
            if any(pattern.matches(event_type) for pattern in self._wanted.values()):
                self._listener.event(event_type, data, metadata, position)
        elif message[0] == "message":
            self._listener.message(message[1])
        else:
            self._misses = 0
            if not self.available and self.link is not None:
                self.link.stands(self._up)

    def _up(self) -> None:
        assert self._listener is not None
        if not self.available:
            self._failures = 0
            self.available = True
            self.up_since = self._time.now
            self._lost = False
            self._listener.restored()

    def down(self, link: Link) -> None:
        assert link is self.link and self._listener is not None
        self.link = None
        if self.available:
            self.down_since = self._time.now
        self.available = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if not self._lost:
            self._lost = True
            self._listener.lost()
        self._again()

    def _again(self) -> None:
        self._failures = min(self._failures + 1, 10)
        self.clock.callLater(self._chance.uniform(0, min(1.0, 0.1 * 2 ** (self._failures - 1))), self._connect)

    def _connect(self) -> None:
        if self.isolated or not self._server.up:
            self._again()
            return
        link = self.link = Link(self, self._server, self._time, self._chance, self._delay)
        self._misses = 0
        link.ask(self._server.open, partial(self._opened, link))
        self._timer = self.clock.callLater(CANARY, self._tick)

    def _opened(self, link: Link, timeline: str | NexusError) -> None:
        if isinstance(timeline, NexusError):
            return
        link.timeline = self.timeline = timeline
        for pattern in self._wanted.values():
            link.subscribe(pattern, _nothing)
        link.subscribe(None, lambda: link.ask(link.canary, _ignored))

    def _tick(self) -> None:
        link = self.link
        assert link is not None
        self._misses += 1
        if self._misses * CANARY > PATIENCE:
            link.end()
            return
        self._timer = self.clock.callLater(CANARY, self._tick)
        if self.available:
            link.ask(link.canary, _ignored)


@implementer(IHistory)
class SimulatedHistory:
    """Asks the server about the past."""

    def __init__(self, bus: SimulatedBus, server: Server) -> None:
        self._bus = bus
        self._server = server

    def tops(self, types: Sequence[str], done: Callable[[dict[str, Position] | NexusError], None]) -> None:
        self._bus.ask(lambda timeline: self._server.tops(timeline, list(types)), done)

    def known(self, pattern: Pattern, done: Callable[[dict[str, Position] | NexusError], None]) -> None:
        self._bus.ask(lambda timeline: self._server.known(timeline, pattern), done)

    def read(
        self, requests: Sequence[tuple[str, Position]], done: Callable[[list[Missed] | NexusError], None]
    ) -> None:
        self._bus.reads += 1
        self._bus.ask(lambda timeline: self._server.read(timeline, list(requests)), done)

    def page(
        self, event_type: str, since: Position | None, limit: int, done: Callable[[Missed | NexusError], None]
    ) -> None:
        self._bus.ask(lambda timeline: self._server.page(timeline, event_type, since, limit), done)


def _nothing() -> None:
    pass


def _ignored(_answer: object) -> None:
    pass
