"""A peer that subscribes, while its place in the history is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nexus_tw.interfaces.peers import Fail, Peer
from nexus_tw.interfaces.realm import Placed
from nexus_tw.model.filters import Filter
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Position
from nexus_tw.pubsub.holdings import Holding

Places = Mapping[str, Position]


class Joining:
    """A peer that subscribes, with the callbacks for each step."""

    __slots__ = ("condition", "fail", "holding", "join", "joined", "ok", "over", "patterns", "peer", "present", "since")

    def __init__(
        self,
        peer: Peer,
        patterns: list[Pattern],
        condition: Filter | None,
        since: Places | None,
        holding: Holding,
        present: Callable[[], bool],
        ok: Callable[[Placed], None],
        join: Callable[[], bool],
        joined: Callable[[], None],
        fail: Fail,
        over: Callable[[], None],
    ) -> None:
        """`present` returns whether the peer is still there; `join` puts it into its cohort, unless it is gone; `joined` is
        called after that and the answer to the client. `over` is called at the end of a recovery that took longer than
        `Recovery.begin`."""
        self.peer = peer
        self.patterns = patterns
        self.condition = condition
        self.since = since
        self.holding = holding
        self.present = present
        self.ok = ok
        self.join = join
        self.joined = joined
        self.fail = fail
        self.over = over

    def finish(self, placed: Placed) -> None:
        """Join and tell the client its positions: no event was missed."""
        if self.join():
            self.ok(placed)
            self.joined()

    def covers(self, event_type: str) -> bool:
        """Return whether one of its patterns selects the type."""
        return any(pattern.matches(event_type) and pattern.selects(event_type) for pattern in self.patterns)
