"""Names (event types, command names, agent ids) and patterns over them.

A name is components joined by dots; a component is not empty and holds no dot, `#`, `*`, white space or
control character; 255 bytes of UTF-8 in all. In a pattern `*` stands for one component anywhere, and `**`, only
at the end, for one or more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Generic, TypeVar

from nexus_tw.errors import invalid

MAX_BYTES: Final = 255
RESERVED: Final = ("nexus.", "wamp.")

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
        raise invalid(member, _why(text))
    return text


def is_reserved(name: str) -> bool:
    """Whether only the server (or the protocol) may publish under this name."""
    return name.startswith(RESERVED)


def _why(text: str) -> str:
    if not text:
        return "must not be empty"
    if not _fits(text):
        return f"longer than {MAX_BYTES} bytes, or not Unicode text"
    return "components are joined by single dots and hold no '#', '*', white space or control character"


class Pattern:
    """A parsed pattern; two patterns are equal when they are written alike."""

    __slots__ = ("exact", "parts", "tail", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        parts = text.split(".")
        self.tail = parts[-1] == "**"  # stands for one or more components
        self.parts = tuple(parts[:-1] if self.tail else parts)
        self.exact = not self.tail and "*" not in self.parts

    def matches(self, name: str) -> bool:
        """Whether the name is one this pattern stands for."""
        if self.exact:
            return name == self.text
        parts = name.split(".")
        fixed = len(self.parts)
        if len(parts) <= fixed if self.tail else len(parts) != fixed:
            return False
        return all(mine in ("*", theirs) for mine, theirs in zip(self.parts, parts, strict=False))

    def covers(self, other: Pattern) -> bool:
        """Whether every name that the other pattern stands for is one of this pattern's too."""
        fixed = len(self.parts)
        at_least = len(other.parts) + other.tail
        if self.tail:
            if at_least <= fixed:
                return False
        elif other.tail or at_least != fixed:
            return False
        return all(mine in ("*", theirs) for mine, theirs in zip(self.parts, other.parts, strict=False))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


@lru_cache(maxsize=16384)
def _parse(text: str) -> Pattern | None:
    return Pattern(text) if _fits(text) and _PATTERN.match(text) else None


def parse_pattern(text: str, member: str) -> Pattern:
    """The pattern, or an `invalid_message` that names the member."""
    pattern = _parse(text) if len(text) <= MAX_BYTES else None
    if pattern is None:
        raise invalid(member, "'*' stands for a whole component and '**' only at the end" if "*" in text else _why(text))
    return pattern


T = TypeVar("T")


class _Node(Generic[T]):
    __slots__ = ("children", "here", "tail")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.here: T | None = None
        self.tail: T | None = None


class PatternMap(Generic[T]):
    """Values by pattern, and all those whose pattern matches a name, found by walking a trie."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def put(self, pattern: Pattern, value: T) -> None:
        node = self._root
        for part in pattern.parts:
            node = node.children.setdefault(part, _Node())
        if pattern.tail:
            node.tail = value
        else:
            node.here = value

    def drop(self, pattern: Pattern) -> None:
        path = [self._root]
        for part in pattern.parts:
            path.append(path[-1].children[part])
        if pattern.tail:
            path[-1].tail = None
        else:
            path[-1].here = None
        for part, parent, node in zip(reversed(pattern.parts), reversed(path[:-1]), reversed(path), strict=False):
            if node.children or node.here is not None or node.tail is not None:
                break
            del parent.children[part]

    def matching(self, name: str) -> Iterator[T]:
        """Values of the patterns that match, shortest prefix first."""
        level = [self._root]
        for part in name.split("."):
            below: list[_Node[T]] = []
            for node in level:
                if node.tail is not None:
                    yield node.tail
                for key in (part, "*"):
                    child = node.children.get(key)
                    if child is not None:
                        below.append(child)
            level = below
        for node in level:
            if node.here is not None:
                yield node.here
