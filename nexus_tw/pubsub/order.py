"""Order: the requests of one client take effect in the order in which it sent them, even if some have to wait.

A client has a line (queue) only while a request of it has not taken effect: a subscription that the bus has not confirmed, or
an authorization that is not decided. Later requests take a place in that line and are carried out once all before them have
taken effect. The authorizer is called at once, so that several authorizations of one client run concurrently; only their
effects wait for each other.

For a client without a line the cost is one look-up in a dictionary.
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

MOST_BYTES: Final = 1048576  # of messages in one line, in addition to limits.waiting, which bounds their number
ALL_BYTES: Final = 67108864  # of messages in all lines of a realm on this node
PLACE: Final = 512  # bytes of overhead that each message counts in ALL_BYTES

_guarded: Final = Guard(__name__, "A queued request of a client could not be carried out")


class Place:
    """The place of one message in its client's line."""

    __slots__ = ("_line", "act", "size")

    def __init__(self, line: _Line, size: int) -> None:
        self._line = line
        self.act: Callable[[], None] | None = None  # carries it out in its turn; None until it is ready
        self.size = size

    def ready(self, act: Callable[[], None]) -> None:
        """Mark the message as ready: `act` is called in its turn, perhaps before this returns."""
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
        self.held = 0  # what the last request that was carried out waits for to take effect
        self.leaving = False  # the client is gone: nothing blocks the line any more
        self.running = False

    def go_on(self) -> None:
        """Carry out all requests whose turn has come."""
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
    """The lines of a realm's clients on this node."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self.held = Budget("waiting_bytes", ALL_BYTES, limits, metrics, "rate_limited")
        self._lines: dict[Peer, _Line] = {}

    @property
    def waiting(self) -> Container[Peer]:
        """The clients with a line."""
        return self._lines

    def waits(self, peer: Peer) -> bool:
        """Return whether a new request of the client has to take a place; False while its line is being worked off."""
        line = self._lines.get(peer)
        return line is not None and not line.running

    def place(self, peer: Peer, size: int = 0) -> Place:
        """Take a place at the end of the client's line for a message of `size` bytes.

        Raise `rate_limited` if `limits.waiting` messages or `MOST_BYTES` of this connection are queued already, or if its
        subject's share or the size of the budget for all connections is exceeded.
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
        """Block the line until as many `release` follow: the current request takes effect later, and no later one may overtake
        it."""
        line = self._line(peer)
        line.held += not line.leaving

    def release(self, peer: Peer) -> None:
        """Unblock the line: the request has taken effect."""
        line = self._lines.get(peer)
        if line is not None and line.held:
            line.held -= 1
            line.go_on()

    def block(self, peer: Peer, begin: Callable[[Callable[[], None]], None]) -> None:
        """Call `begin`, and block the line until the function that it is passed is called, perhaps before it returns."""
        over = held = False

        def done() -> None:
            nonlocal over
            over = True
            if held:
                self.release(peer)

        begin(done)
        if not over:
            held = True
            self.hold(peer)

    def leave(self, peer: Peer) -> None:
        """Clear the line of a client that is gone: its remaining requests take effect without waiting."""
        line = self._lines.get(peer)
        if line is not None:
            line.leaving = True
            line.held = 0
            line.go_on()

    def left(self, peer: Peer) -> bool:
        """Return whether the client is gone and its line is being cleared."""
        line = self._lines.get(peer)
        return line is not None and line.leaving

    def end(self, peer: Peer) -> None:
        """Remove an empty line."""
        del self._lines[peer]

    def _line(self, peer: Peer) -> _Line:
        line = self._lines.get(peer)
        if line is None:
            line = self._lines[peer] = _Line(self, peer)
        return line
