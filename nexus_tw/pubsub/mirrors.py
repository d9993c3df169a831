"""Mirrors: the sessions and subscriptions of other nodes, as far as this node has to tell of their beginning and end.

Whether a subscription begins or ends in the realm shows only when those of all nodes are seen together, and a node that dies
does not tell what ends with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal

from nexus_tw.pubsub.facts import Facts

Kind = Literal["sessions", "subscriptions"]
KINDS: Final[tuple[Kind, ...]] = ("sessions", "subscriptions")


class _Mirror:
    """What one node has, by kind and id."""

    def __init__(self) -> None:
        self.held: dict[Kind, dict[int, Facts]] = {}  # without the kinds that are not known
        self.coming: dict[Kind, dict[int, Facts]] = {}  # lists that are not complete


class Mirrors:
    """The mirrors of all other nodes."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Mirror] = {}
        self._holders: Counter[int] = Counter()  # nodes, by the id of a session or subscription
        self._size = 0

    def __len__(self) -> int:
        """Return how many sessions and subscriptions are mirrored."""
        return self._size

    def has(self, node: str) -> bool:
        """Return whether there is a mirror of this node."""
        return node in self._nodes

    def elsewhere(self, number: int) -> bool:
        """Return whether any other node has the session or subscription of this id."""
        return number in self._holders

    def holders(self, number: int) -> int:
        """Return how many other nodes have the session or subscription of this id."""
        return self._holders[number]

    def begin(self, node: str, kind: Kind) -> None:
        """Begin to mirror this kind of a node: nothing of what it lists next is news."""
        self._mirror(node).held.pop(kind, None)

    def news(self, node: str, kind: Kind) -> None:
        """Mirror this kind of a node: all that it lists next is news, but what is mirrored of it already."""
        self._mirror(node).held.setdefault(kind, {})

    def end(self, kind: Kind) -> None:
        """Mirror this kind no more."""
        for node, mirror in list(self._nodes.items()):
            self._replace(mirror, kind, None)
            mirror.coming.pop(kind, None)
            if not mirror.held and not mirror.coming:
                del self._nodes[node]

    def listed(self, node: str, kind: Kind, facts: Iterable[Facts], last: bool) -> tuple[list[Facts], list[Facts]]:
        """Take a part of the list of all that a node has. Return with its last part what has begun, and what has ended."""
        mirror = self._mirror(node)
        coming = mirror.coming.setdefault(kind, {})
        coming.update((each.number, each) for each in facts)
        if not last:
            return [], []
        del mirror.coming[kind]
        held = mirror.held.get(kind)
        self._replace(mirror, kind, coming)
        if held is None:
            return [], []
        begun = [each for number, each in coming.items() if number not in held]
        ended = [each for number, each in held.items() if number not in coming]
        return begun, ended

    def add(self, node: str, kind: Kind, facts: Facts) -> None:
        """A node has one more."""
        held = self._mirror(node).held.get(kind)
        if held is not None:
            if facts.number not in held:
                self._holders[facts.number] += 1
                self._size += 1
            held[facts.number] = facts

    def drop(self, node: str, kind: Kind, number: int) -> None:
        """A node has one less."""
        held = self._mirror(node).held.get(kind)
        if held is not None and held.pop(number, None) is not None:
            self._less(number)

    def forget(self, node: str) -> list[Facts]:
        """A node is gone. Return what it had."""
        mirror = self._nodes.pop(node)
        had = [facts for kind in KINDS for facts in mirror.held.get(kind, {}).values()]
        for kind in KINDS:
            self._replace(mirror, kind, None)
        return had

    # ---

    def _mirror(self, node: str) -> _Mirror:
        mirror = self._nodes.get(node)
        if mirror is None:
            mirror = self._nodes[node] = _Mirror()
        return mirror

    def _replace(self, mirror: _Mirror, kind: Kind, held: dict[int, Facts] | None) -> None:
        for number in mirror.held.pop(kind, ()):
            self._less(number)
        if held is not None:
            mirror.held[kind] = held
            self._holders.update(held.keys())
            self._size += len(held)

    def _less(self, number: int) -> None:
        self._size -= 1
        self._holders[number] -= 1
        if not self._holders[number]:
            del self._holders[number]
