"""The roll of a fleet inside one process, and `IRoll` of a node on the memory bus: answers at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from secrets import token_hex

from zope.interface import implementer

from nexus_tw.bus.bounds import MAX_BURIED, MAX_NODES
from nexus_tw.bus.memory_history import away
from nexus_tw.interfaces.plugins import LEFT, Beats, Burial, IRoll
from nexus_tw.model.errors import NexusError


def full() -> NexusError:
    """Return the error for a node that has no room in the roll."""
    return NexusError("limit_exceeded", f"there are {MAX_NODES} others, the most that there may be")


class Roll:
    """Beats, the buried and their heirs; the same rules as in `nexus_tw/bus/redis/scripts`."""

    def __init__(self) -> None:
        self.buried: dict[str, None] = {}  # oldest first
        self.clear()

    def clear(self) -> None:
        """Forget everything, as a bus does that loses its data."""
        self.epoch = token_hex(4)
        self._beats: dict[str, int] = {}
        self.buried.clear()
        self._legacy: dict[str, str] = {}  # heirs by node

    def beat(self, node: str, known: Sequence[str]) -> Beats | None:
        """Return the roll; None if it is full."""
        if node in self.buried:
            return Beats(self.epoch, {}, frozenset((node,)), ())
        if node not in self._beats and len(self._beats) >= MAX_NODES:
            return None
        self._beats[node] = self._beats.get(node, 0) + 1
        buried = frozenset(name for name in known if name in self.buried)
        return Beats(self.epoch, dict(self._beats), buried, [name for name, heir in self._legacy.items() if heir == node])

    def bury(self, node: str, beats: int | None, heir: str) -> Burial:
        if node in self.buried:
            return Burial.ANOTHERS
        if heir in self.buried or beats not in (None, self._beats.get(node, 0)):
            return Burial.REFUSED
        self._beats.pop(node, None)
        self.buried[node] = None
        self._legacy = {name: heir if old == node else old for name, old in self._legacy.items()}
        self._legacy[node] = heir
        while len(self.buried) > MAX_BURIED:
            oldest = next(iter(self.buried))
            del self.buried[oldest]
            self._legacy.pop(oldest, None)
        return Burial.MINE

    def settle(self, node: str, heir: str) -> None:
        if self._legacy.get(node) == heir:
            del self._legacy[node]

    def leave(self, node: str) -> None:
        if node in self._beats:
            self._beats[node] = LEFT


@implementer(IRoll)
class MemoryRoll:
    """A node's access to the roll."""

    def __init__(self, roll: Roll, available: Callable[[], bool]) -> None:
        self._roll = roll
        self._available = available

    def beat(self, node: str, known: Sequence[str], done: Callable[[Beats | NexusError], None]) -> None:
        if not self._available():
            done(away())
        else:
            done(self._roll.beat(node, known) or full())

    def bury(self, node: str, beats: int | None, heir: str, done: Callable[[Burial | NexusError], None]) -> None:
        done(self._roll.bury(node, beats, heir) if self._available() else away())

    def settle(self, node: str, heir: str, done: Callable[[NexusError | None], None]) -> None:
        if not self._available():
            done(away())
            return
        self._roll.settle(node, heir)
        done(None)

    def leave(self, node: str, done: Callable[[NexusError | None], None]) -> None:
        if not self._available():
            done(away())
            return
        self._roll.leave(node)
        done(None)
