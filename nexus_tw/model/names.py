"""Names (event types, command names, agent ids) and patterns over them.

A name is components joined by dots; a component is not empty and holds no dot, `#`, `*`, white space or
control character; 255 bytes of UTF-8 in all. In a pattern `*` stands for one component anywhere, and `**`, only
at the end, for one or more.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from nexus_tw.model.errors import invalid

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

    def selects(self, name: str) -> bool:
        """Return whether a name that it matches is selected: a reserved name only if the pattern begins with the same
        component (`wamp.**`, not `**`)."""
        return not is_reserved(name) or self.first == name.partition(".")[0]

    def selects_all_of(self, other: Pattern) -> bool:
        """Return whether it selects every name that a pattern which it covers selects."""
        if other.exact:
            return self.selects(other.text)
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
