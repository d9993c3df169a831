"""Observes the beats of other nodes: whoever does not change them for some time is dead.

Time counts only while this node reads the roll regularly. After a pause of its own, or of the bus, it begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

SILENT: Final = 2.5  # beats for which a node is waited for; one less is missed by those that beat at the same pace
PAUSE: Final = 2.5  # beats without reading the roll after which silence is counted anew


class Watch:
    """Silence by node, in seconds."""

    def __init__(self, interval: float, silence: float) -> None:
        """`interval` is the time from one reading to the next; a node is dead after `silence`."""
        self._interval = interval
        self._silence = silence
        self._nodes: dict[str, tuple[int, float]] = {}  # beats, and since when
        self._read: float | None = None

    def interrupt(self) -> None:
        """The roll was not read for a while."""
        self._read = None

    def silent(self, now: float, node: str) -> bool:
        """Return whether the node's beats have not changed for so long that it stands still, or is cut off."""
        if self._read is None or now - self._read > PAUSE * self._interval:
            return False  # it may be this node that stood still
        beats = self._nodes.get(node)
        return beats is not None and now - beats[1] > SILENT * self._interval

    def observe(self, now: float, names: Iterable[str], beats: Mapping[str, int]) -> list[tuple[str, int]]:
        """Read the roll, for these names (0 beats for those that are not in it). Return the dead with their beats."""
        if self._read is None or now - self._read > PAUSE * self._interval:
            self._nodes = {}
        self._read = now
        seen = {}
        dead = []
        for name in names:
            count = beats.get(name, 0)
            old = self._nodes.get(name)
            seen[name] = old if old is not None and old[0] == count else (count, now)
            if now - seen[name][1] >= self._silence:
                dead.append((name, count))
        self._nodes = seen
        return dead
