"""Order: what one client asks for takes effect in the order in which it asked, whatever some of it waits for in between.

A client has a line only while something that it asked for has not taken effect: a subscription that the bus has not
confirmed, a question that the authorizer has not answered. What it asks for meanwhile takes a place in that line and is
done once everything before it is. The authorizer is asked at once, so that several questions of one client are under way
together; only the effects wait for each other.

For a client without a line the cost is one look into a dictionary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container
from typing import Final

from nexus_tw.interfaces.peers import Peer
from nexus_tw.model.budgets import Budget
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Limits
from nexus_tw.runtime.guard import Guard

MOST_BYTES: Final = 1048576  # of messages in one line, besides limits.waiting, which counts them
ALL_BYTES: Final = 67108864  # of messages in all lines of a realm on this node
PLACE: Final = 512  # bytes for which each message counts besides in that

_guarded: Final = Guard(__name__, "What a client asked for could not be done in its turn")


class Place:
    """Holds the place of one message in its client's line."""

    __slots__ = ("_line", "act", "size")

    def __init__(self, line: _Line, size: int) -> None:
        self._line = line
        self.act: Callable[[], None] | None = None  # what to do in its turn; None while something else is waited for
        self.size = size

    def ready(self, act: Callable[[], None]) -> None:
        """Call `act` when its turn comes, perhaps before this returns: nothing else is waited for any more."""
        self.act = act
        self._line.go_on()


class _Line:
    """The requests of one client that have not taken effect, oldest first."""

    __slots__ = ("_lines", "_peer", "account", "bytes", "held", "leaving", "places", "running")

    def __init__(self, lines: Lines, peer: Peer) -> None:
        self._lines = lines
        self._peer = peer
        self.account = peer.principal.account
        self.places: deque[Place] = deque()
        self.bytes = 0
        self.held = False  # what was done last has not taken effect yet
        self.leaving = False  # the client is gone: nothing holds the line up any more
        self.running = False

    def go_on(self) -> None:
        """Do what can be done now."""
        if self.running:
            return
        places = self.places
        self.running = True
        while places and not self.held and (act := places[0].act) is not None:
            size = places.popleft().size
            self.bytes -= size
            self._lines.held.give_back(self.account, size + PLACE)
            _guarded(act)
        self.running = False
        if not places and not self.held:
            self._lines.end(self._peer)


class Lines:
    """The lines of all clients of a realm on this node that have one."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self.held = Budget("waiting_bytes", ALL_BYTES, limits, metrics, "rate_limited")
        self._lines: dict[Peer, _Line] = {}

    @property
    def waiting(self) -> Container[Peer]:
        """The clients that have a line."""
        return self._lines

    def waits(self, peer: Peer) -> bool:
        """Return whether what the client asks for now has to take a place; not while its turn has come."""
        line = self._lines.get(peer)
        return line is not None and not line.running

    def place(self, peer: Peer, size: int = 0) -> Place:
        """Take a place at the end of the client's line for a message of `size` bytes.

        Raise `rate_limited` if `limits.waiting` messages or `MOST_BYTES` wait already, or too much of the subject's connections
        or of all.
        """
        line = self._lines.get(peer) or _Line(self, peer)
        most = self._limits.waiting
        if 0 < most <= len(line.places) or line.bytes >= MOST_BYTES:
            self._metrics.messages_refused += 1
            what = f"{most} messages" if line.bytes < MOST_BYTES else f"{MOST_BYTES} bytes"
            raise NexusError("rate_limited", f"More than {what} of this connection wait for an earlier one to take effect")
        try:
            self.held.take(line.account, size + PLACE)
        except NexusError:
            self._metrics.messages_refused += 1
            raise
        self._lines[peer] = line
        self._metrics.messages_queued += 1
        place = Place(line, size)
        line.places.append(place)
        line.bytes += size
        return place

    def hold(self, peer: Peer) -> None:
        """Let nothing overtake the request in hand: it takes effect later."""
        line = self._line(peer)
        line.held = not line.leaving

    def release(self, peer: Peer) -> None:
        """It has taken effect: go on."""
        line = self._lines.get(peer)
        if line is not None and line.held:
            line.held = False
            line.go_on()

    def leave(self, peer: Peer) -> None:
        """The client is gone: what it still asked for takes effect without waiting for what was held."""
        line = self._lines.get(peer)
        if line is not None:
            line.leaving = True
            line.held = False
            line.go_on()

    def left(self, peer: Peer) -> bool:
        """Return whether the client is gone and its line is being cleared."""
        line = self._lines.get(peer)
        return line is not None and line.leaving

    def end(self, peer: Peer) -> None:
        """Forget a line in which nothing is left."""
        del self._lines[peer]

    def _line(self, peer: Peer) -> _Line:
        line = self._lines.get(peer)
        if line is None:
            line = self._lines[peer] = _Line(self, peer)
        return line
