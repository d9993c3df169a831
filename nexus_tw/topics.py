"""Names (event types, command names, agent ids) and patterns over them.

A name is components joined by dots; a component is not empty and holds no dot, `#`, `*`, white space or
control character; 255 bytes of UTF-8 in all. In a pattern `*` stands for one component anywhere, and `**`, only
at the end, for one or more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, Generic, TypeVar

from nexus_tw.errors import invalid

MAX_BYTES: Final = 255
RESERVED: Final = ("nexus.", "wamp.")
_RESERVED_FIRST: Final = frozenset(name.rstrip(".") for name in RESERVED)

# Everything Unicode calls white space or control (C0, DEL, C1), line and paragraph separators among them.
_COMPONENT: Final = r"[^.#*\s\x00-\x1f\x7f-\x9f]+"
_NAME: Final = re.compile(rf"{_COMPONENT}(?:\.{_COMPONENT})*\Z")
_PATTERN: Final = re.compile(rf"(?:(?:{_COMPONENT}|\*)(?:\.(?:{_COMPONENT}|\*))*(?:\.\*\*)?|\*\*)\Z")


def _fits(text: str) -> bool:
    # A lone surrogate has no UTF-8; the regular expression would let it pass.
    try:
        return len(text) <= MAX_BYTES and len(text.encode()) <= MAX_BYTES
    except UnicodeEncodeError:
        return False


def is_name(text: str) -> bool:
    """Whether the text is a well-formed name."""
    # What is too long is not remembered: thousands of such texts would be a gigabyte.
    return len(text) <= MAX_BYTES and _is_name(text)


@lru_cache(maxsize=16384)
def _is_name(text: str) -> bool:
    return _fits(text) and _NAME.match(text) is not None


def check_name(text: str, member: str) -> str:
    """The text itself, or an `invalid_message` that names the member."""
    if not is_name(text):
        raise invalid(member, why_not(text))
    return text


def is_reserved(name: str) -> bool:
    """Whether only the server (or the protocol) may publish under this name."""
    return name.startswith(RESERVED)


def why_not(text: str) -> str:
    """Say why the text is no name."""
    if not text:
        return "must not be empty"
    if not _fits(text):
        return f"longer than {MAX_BYTES} bytes, or not Unicode text"
    return "components are joined by single dots and hold no '#', '*', white space or control character"


class Pattern:
    """A parsed pattern; two patterns are equal when they are written alike.

    `parts` are the components that are given, `*` for any. `tail` is None where there is no more to a name than these; else
    one or more components follow, the first of which begins with it: `""` for `**`. A tail that is not empty and a wildcard
    without a star cannot be written by a client of the JSON protocol; they come from WAMP (`prefixed`, `wildcard`).
    """

    __slots__ = ("exact", "tail", "text")

    def __init__(self, text: str, tail: str | None, exact: bool) -> None:
        self.text = text
        self.tail = tail
        self.exact = exact

    @property
    def parts(self) -> tuple[str, ...]:
        # Not kept: a text of 255 bytes may have 128 components, each an object of 50 bytes.
        if self.tail is not None:
            return tuple(self.text[: -len("**")].split(".")[:-1])
        return tuple(self.text.removeprefix(".").split("."))

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """The pattern that was written so; what is none must have been refused before."""
        if text.rpartition(".")[2] == "**":
            return cls(text, "", False)
        return cls(text, None, "*" not in text)

    @classmethod
    def prefixed(cls, prefix: str) -> Pattern:
        """All names that begin with these characters (WAMP's match policy `prefix`)."""
        return cls(f"{prefix}**", prefix.rpartition(".")[2], False)

    @classmethod
    def wildcard(cls, uri: str) -> Pattern:
        """Names of as many components, in which an empty one stands for any (WAMP's match policy `wildcard`)."""
        parts = [part or "*" for part in uri.split(".")]
        # Without an empty component it stands for one name only, and still is not the subscription to that name.
        return cls(".".join(parts) if "*" in parts else f".{uri}", None, False)

    @property
    def policy(self) -> tuple[str, str]:
        """WAMP's match policy and URI for it. One with stars and a tail, which WAMP does not have, is told as it is written."""
        match = self.match
        if match == "prefix":
            return match, self.text[: -len("**")]
        if match == "exact" or self.tail is not None:
            return match, self.text
        return match, ".".join("" if part == "*" else part for part in self.parts)

    @property
    def match(self) -> str:
        """WAMP's match policy for it, alone."""
        if self.exact:
            return "exact"
        return "wildcard" if self.tail is None or "*" in self.text[: -len("**")] else "prefix"

    def matches(self, name: str) -> bool:
        """Whether the name is one this pattern stands for."""
        if self.exact:
            return name == self.text
        parts = name.split(".")
        own = self.parts
        fixed = len(own)
        if self.tail is None:
            if len(parts) != fixed:
                return False
        elif len(parts) <= fixed or not parts[fixed].startswith(self.tail):
            return False
        return all(mine in ("*", theirs) for mine, theirs in zip(own, parts, strict=False))

    @property
    def first(self) -> str:
        """The first component as it is written: `*`, or the beginning of one where there is nothing but a tail."""
        parts = self.parts
        return parts[0] if parts else self.tail or ""

    def means(self, name: str) -> bool:
        """Whether a name that it matches is one that its writer had in mind: what is the server's and the protocol's own is
        meant by those only who name it (`wamp.**`), not by those who say everything."""
        return not is_reserved(name) or self.first == name.partition(".")[0]

    def means_all_of(self, other: Pattern) -> bool:
        """Whether the same holds for the names of a pattern that it covers, as far as that one means them itself."""
        if other.exact:
            return self.means(other.text)
        return other.first not in _RESERVED_FIRST or self.first == other.first

    def covers(self, other: Pattern) -> bool:
        """Whether every name that the other pattern stands for is one of this pattern's too."""
        own, others = self.parts, other.parts
        fixed = len(own)
        if self.tail is None:
            if other.tail is not None or len(others) != fixed:
                return False
        elif len(others) > fixed:
            if not others[fixed].startswith(self.tail):  # a star of theirs begins with nothing but itself
                return False
        elif len(others) < fixed or other.tail is None or not other.tail.startswith(self.tail):
            return False
        return all(mine in ("*", theirs) for mine, theirs in zip(own, others, strict=False))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


@lru_cache(maxsize=16384)
def _parse(text: str) -> Pattern | None:
    return Pattern.parse(text) if _fits(text) and _PATTERN.match(text) else None


def parse_pattern(text: str, member: str) -> Pattern:
    """The pattern, or an `invalid_message` that names the member."""
    pattern = _parse(text) if len(text) <= MAX_BYTES else None
    if pattern is None:
        raise invalid(member, "'*' stands for a whole component and '**' only at the end" if "*" in text else why_not(text))
    return pattern


T = TypeVar("T")


class _Node(Generic[T]):
    """A place where patterns end or part ways; `label` are the `size` components that lead to it from the one above."""

    __slots__ = ("children", "here", "label", "size", "tails")

    def __init__(self, label: str, size: int) -> None:
        self.label = label
        self.size = size
        # None where there is nothing: nearly every node has but one of these.
        self.children: dict[str, _Node[T]] | None = None  # by the first component of their labels
        self.here: dict[str, T] | None = None  # by text: a name, and a wildcard without a star, are the same place
        self.tails: dict[str, T] | None = None

    def fits(self, parts: list[str], at: int) -> bool:
        """Whether the label stands for the components of a name from there on, of which the first one does."""
        if self.size == 1:
            return True
        mine, theirs = self.label.split("."), parts[at : at + self.size]
        return mine == theirs or (
            len(mine) == len(theirs) and all(one in ("*", other) for one, other in zip(mine, theirs, strict=True))
        )

    def after(self, size: int) -> _Node[T]:
        """Cut the label after so many components; return the node that now stands there, above this one."""
        label = self.label.split(".")
        above: _Node[T] = _Node(".".join(label[:size]), size)
        above.children = {label[size]: self}
        self.label = ".".join(label[size:])
        self.size -= size
        return above


class PatternMap(Generic[T]):
    """Values by pattern, and all those whose pattern matches a name, found by walking a trie.

    Components that all patterns share which have the first of them are one node, so that what is kept of a pattern is no more
    than a few times its text.
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
        """Remove the value of a pattern that was put."""
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
                if len(node.children) == 1:  # no ways part here any more
                    (child,) = node.children.values()
                    child.label = f"{node.label}.{child.label}"
                    child.size += node.size
                    above.children[first] = child
                break

    def matching(self, name: str) -> Iterator[T]:
        """Values of the patterns that match, shortest prefix first."""
        parts = name.split(".")
        reached: dict[int, list[_Node[T]]] = {0: [self._root]}  # by how many components lead there
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


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many components they begin with that are the same."""
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _beginning(tails: dict[str, T], part: str) -> Iterator[T]:
    # Looked up, not compared with each: a prefix may be asked for by very many.
    if len(tails) == 1:
        (tail,) = tails
        if part.startswith(tail):
            yield tails[tail]
        return
    for size in range(len(part) + 1):
        if (tail := part[:size]) in tails:
            yield tails[tail]
