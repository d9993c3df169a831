"""Messages between nodes over the bus, apart from events: broadcasts and gaps.

A message reaches the nodes that are connected at that moment. So a node that comes back says for how long it was away, and the
others repeat to it the gaps that they told meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Final

import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from nexus_tw.interfaces.peers import Fail, Peer
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.errors import NexusError
from nexus_tw.model.notices import BroadcastNotice
from nexus_tw.model.times import Timestamps
from nexus_tw.pubsub.arriving import Arrivals
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.walltime import wall

_guarded: Final = Guard(__name__, "A broadcast could not be handed to a client")

ANY: Final = ""  # event type of a gap that concerns more types than are kept one by one
GAPS: Final = 1024  # types of lost events that are kept until every node has been told
AGAIN: Final = 0.25  # seconds until a gap that the bus refused is sent again
UNNOTICED: Final = 5.0  # seconds for which a node may have been away before it noticed
OVERLAP: Final = 0.5  # seconds for which it may have missed messages after it was back by its own clock
PATIENCE: Final = 2.0  # seconds to wait for the other nodes' numbers of recipients of a broadcast


class Spread(msgspec.Struct, tag="broadcast", gc=False):
    """An administrator's message to every JSON session and every subscriber of `nexus.broadcast`; each node answers `origin`
    with `Reached`."""

    origin: str
    number: int
    data: msgspec.Raw
    timestamp: str


class Reached(msgspec.Struct, tag="reached", gc=False):
    """The number of clients of one node that got a broadcast."""

    number: int
    recipients: int


class Gap(msgspec.Struct, tag="gap", gc=False):
    """Events of this type, or of `ANY`, were lost before they reached the bus."""

    event_type: str


class Back(msgspec.Struct, tag="back", gc=False):
    """The node `origin` was away, from `lost` seconds ago until `back` seconds ago. With `answer` it may have missed the same
    message of others, as it has just come back."""

    origin: str
    lost: float
    back: float
    answer: bool


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Spread | Reached | Gap | Back).decode


class _Tally:
    """A broadcast whose recipients are being counted."""

    __slots__ = ("answers", "nodes", "ok", "recipients", "timer")

    def __init__(self, ok: Callable[[int], None], timer: IDelayedCall) -> None:
        self.ok = ok
        self.timer = timer
        self.nodes: int | None = None  # number of nodes that will answer; None until the bus has reported it
        self.answers = 0
        self.recipients = 0


class Nodes:
    """Exchanges broadcasts and gaps with the other nodes."""

    _log = Logger()

    def __init__(
        self,
        bus: IBus,
        clock: IReactorTime,
        everybody: Callable[[], Iterable[Peer]],
        arrivals: Arrivals,
        gap: Callable[[str], None],
    ) -> None:
        """`everybody` returns the peers that get broadcasts without a subscription; `gap` tells the subscribers on this node
        that events of a type were lost."""
        self._gap = gap
        self._bus = bus
        self._clock = clock
        self._everybody = everybody
        self._arrivals = arrivals
        self._timestamps = Timestamps()
        self._tallies: dict[int, _Tally] = {}
        self._number = 0
        self._gaps: dict[str, None] = {}  # event types of gaps not sent yet
        self._telling: IDelayedCall | None = None
        self._told_at: dict[str, float] = {}  # when gaps were told last, by event type
        self._lost_at: float | None = None  # when the last outage began, and when it ended
        self._back_at: float | None = None

    def broadcast(self, data: msgspec.Raw, ok: Callable[[int], None], fail: Fail) -> None:
        """Send JSON to all clients of all nodes; `ok` gets the number of recipients on nodes that answered in time."""
        self._number += 1
        number = self._number
        tally = _Tally(ok, self._clock.callLater(PATIENCE, self._count, number))
        self._tallies[number] = tally

        def sent(nodes: int | NexusError) -> None:
            if number not in self._tallies:  # reported already, since the bus took too long
                return
            if isinstance(nodes, NexusError):
                tally.timer.cancel()
                del self._tallies[number]
                fail(nodes)
            else:
                tally.nodes = nodes
                self._check(number)

        spread = Spread(self._bus.node, number, data, self._timestamps.text(wall(self._clock)))
        self._bus.send(None, _encode(spread), sent)

    def tell_gap(self, event_type: str) -> None:
        """Make every node tell its subscribers that events of this type were lost, as soon as the bus accepts the message."""
        if len(self._gaps) >= GAPS and event_type not in self._gaps:
            self._gaps = {}
            event_type = ANY
        if ANY not in self._gaps:
            self._gaps[event_type] = None
        self._schedule(0)

    def _schedule(self, seconds: float) -> None:
        # No attempts while the bus is unreachable: `restored` resumes.
        if self._telling is None and self._bus.available:
            self._telling = self._clock.callLater(seconds, self._tell_gaps)

    def _tell_gaps(self) -> None:
        if self._telling is not None and self._telling.active():
            self._telling.cancel()
        self._telling = None
        gaps, self._gaps = self._gaps, {}
        for event_type in sorted(gaps):
            self._bus.send(None, _encode(Gap(event_type)), partial(self._told, event_type))

    def _told(self, event_type: str, nodes: int | NexusError) -> None:
        if isinstance(nodes, NexusError):
            self._gaps[event_type] = None
            self._schedule(AGAIN)
            return
        if len(self._told_at) >= GAPS and event_type not in self._told_at:
            self._told_at.clear()
            event_type = ANY
        self._told_at[event_type] = self._clock.seconds()

    def _say_back(self, node: str | None) -> None:
        """Tell one node, or all, when this one was away."""
        if self._lost_at is not None and self._back_at is not None:
            now = self._clock.seconds()
            back = Back(self._bus.node, now - self._lost_at, now - self._back_at, node is None)
            self._bus.send(node, _encode(back), lambda _nodes: None)

    def _repeat(self, back: Back) -> None:
        """Another node was away: repeat the gaps that it may have missed."""
        now = self._clock.seconds()
        first, last = now - back.lost - UNNOTICED, now - back.back + OVERLAP
        for event_type, told in list(self._told_at.items()):
            if first <= told <= last:
                self._bus.send(back.origin, _encode(Gap(event_type)), lambda _nodes: None)
        if back.answer and self._back_at is not None and self._back_at >= first:
            self._say_back(back.origin)

    # --- from the bus

    def lost(self) -> None:
        """The bus is unreachable."""
        self._lost_at, self._back_at = self._clock.seconds(), None

    def message(self, body: bytes) -> None:
        """Handle a message of another node, or of this one."""
        try:
            message = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._log.warn("Dropped a message between nodes that cannot be decoded ({size} bytes)", size=len(body))
            return
        if type(message) is Spread:
            recipients = self._deliver(message)
            reached = Reached(message.number, recipients)
            self._bus.send(message.origin, _encode(reached), lambda _nodes: None)
        elif type(message) is Reached:
            tally = self._tallies.get(message.number)
            if tally is not None:
                tally.answers += 1
                tally.recipients += message.recipients
                self._check(message.number)
        elif type(message) is Gap:
            if message.event_type == ANY:
                self._arrivals.gap_anywhere()
            else:
                self._gap(message.event_type)
        elif type(message) is Back and message.origin != self._bus.node:
            self._repeat(message)

    def restored(self) -> None:
        """Send the gaps that could not be sent while the bus was unreachable, and ask for those of others."""
        self._back_at = self._clock.seconds()
        self._tell_gaps()
        self._say_back(None)

    # ---

    def _deliver(self, spread: Spread) -> int:
        notice = BroadcastNotice(spread.data, spread.timestamp)
        frames: dict[Hashable, bytes] = {}

        def hand(peer: Peer) -> None:
            encoding = peer.encoding
            frame = frames.get(encoding.key)
            if frame is None:
                frame = frames[encoding.key] = encoding.notice(notice)
            peer.deliver(frame)

        told = [peer for peer in list(self._everybody()) if _guarded(hand, peer)]
        return len(told) + self._arrivals.broadcast(bytes(spread.data), told)

    def _check(self, number: int) -> None:
        tally = self._tallies[number]
        if tally.nodes is not None and tally.answers >= tally.nodes:
            tally.timer.cancel()
            self._count(number)

    def _count(self, number: int) -> None:
        tally = self._tallies.pop(number)
        tally.ok(tally.recipients)
