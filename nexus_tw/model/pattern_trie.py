"""A trie of patterns: finds all patterns that match a name without visiting each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from nexus_tw.model.names import Pattern

T = TypeVar("T")


class _Node(Generic[T]):
    """A node at which patterns end or branch; `label` is the `size` components on the edge from its parent."""

    __slots__ = ("children", "here", "label", "size", "tails")

    def __init__(self, label: str, size: int) -> None:
        self.label = label
        self.size = size
        # None if empty: nearly every node has only one of these.
        self.children: dict[str, _Node[T]] | None = None  # by the first component of their labels
        self.here: dict[str, T] | None = None  # by text: a name, and a wildcard without a star, are the same place
        self.tails: dict[str, T] | None = None

    def fits(self, parts: list[str], at: int) -> bool:
        """Return whether the label matches the components of a name from index `at` on; the first one is known to match."""
        if self.size == 1:
            return True
        mine, theirs = self.label.split("."), parts[at : at + self.size]
        return mine == theirs or (
            len(mine) == len(theirs) and all(one in ("*", other) for one, other in zip(mine, theirs, strict=True))
        )

    def after(self, size: int) -> _Node[T]:
        """Split the label after `size` components. Return the new node at that place, the parent of this one."""
        label = self.label.split(".")
        above: _Node[T] = _Node(".".join(label[:size]), size)
        above.children = {label[size]: self}
        self.label = ".".join(label[size:])
        self.size -= size
        return above


class PatternTrie(Generic[T]):
    """Values by pattern, with a look-up of all whose pattern matches a name.

    It is a radix trie: a sequence of components without branches is one node, so the memory for a pattern is only a few times
    its text.
    """

    def __init__(self) -> None:
        self._root: _Node[T] = _Node("", 0)

    def put(self, pattern: Pattern, value: T) -> None:
        node = self._root
        parts = pattern.parts
        at = 0
        while at < len(parts):
            if node.children is None:
                node.children = {}
            first = parts[at]
            child = node.children.get(first)
            if child is None:
                child = node.children[first] = _Node(".".join(parts[at:]), len(parts) - at)
            else:
                shared = _shared(child.label.split("."), parts[at:])
                if shared < child.size:
                    child = node.children[first] = child.after(shared)
            node = child
            at += node.size
        if pattern.tail is None:
            if node.here is None:
                node.here = {}
            node.here[pattern.text] = value
        else:
            if node.tails is None:
                node.tails = {}
            node.tails[pattern.tail] = value

    def drop(self, pattern: Pattern) -> None:
        """Remove the value of a pattern that is in the trie."""
        node = self._root
        path: list[tuple[_Node[T], str]] = []
        parts = pattern.parts
        at = 0
        while at < len(parts):
            path.append((node, parts[at]))
            assert node.children is not None
            node = node.children[parts[at]]
            at += node.size
        if pattern.tail is None:
            assert node.here is not None
            node.here.pop(pattern.text, None)
            node.here = node.here or None
        else:
            assert node.tails is not None
            node.tails.pop(pattern.tail, None)
            node.tails = node.tails or None
        while path and node.here is None and node.tails is None:
            above, first = path.pop()
            assert above.children is not None
            if node.children is None:
                del above.children[first]
                above.children = above.children or None
                node = above
            else:
                if len(node.children) == 1:  # no branch any more
                    (child,) = node.children.values()
                    child.label = f"{node.label}.{child.label}"
                    child.size += node.size
                    above.children[first] = child
                break

    def matching(self, name: str) -> Iterator[T]:
        """Yield the values of the patterns that match the name, shortest prefix first."""
        parts = name.split(".")
        reached: dict[int, list[_Node[T]]] = {0: [self._root]}  # by the number of components that lead there
        for at, part in enumerate(parts):
            for node in reached.pop(at, ()):
                if node.tails is not None:
                    yield from _beginning(node.tails, part)
                if node.children is not None:
                    for key in (part, "*"):
                        child = node.children.get(key)
                        if child is not None and child.fits(parts, at):
                            reached.setdefault(at + child.size, []).append(child)
        for node in reached.pop(len(parts), ()):
            if node.here is not None:
                yield from node.here.values()


def _beginning(tails: dict[str, T], part: str) -> Iterator[T]:
    # Look up each prefix of `part` instead of comparing all tails: there may be very many.
    if len(tails) == 1:
        (tail,) = tails
        if part.startswith(tail):
            yield tails[tail]
        return
    for size in range(len(part) + 1):
        if (tail := part[:size]) in tails:
            yield tails[tail]


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the common prefix, in components."""
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count
