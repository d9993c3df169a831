"""Names (event types, command names, agent ids) and patterns over them.

A name consists of components joined by dots, at most 255 bytes of UTF-8 in all. A component is not empty and contains no dot,
`#`, `*`, white space or control character. In a pattern, `*` matches one component at any place, and `**`, allowed only at
the end, one or more.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from nexus_tw.model.errors import invalid

MAX_BYTES: Final = 255
RESERVED: Final = ("nexus.", "wamp.")
_RESERVED_FIRST: Final = frozenset(name.rstrip(".") for name in RESERVED)

# All that Unicode classifies as white space or control (C0, DEL, C1), line and paragraph separators included.
_COMPONENT: Final = r"[^.#*\s\x00-\x1f\x7f-\x9f]+"
_NAME: Final = re.compile(rf"{_COMPONENT}(?:\.{_COMPONENT})*\Z")
_PATTERN: Final = re.compile(rf"(?:(?:{_COMPONENT}|\*)(?:\.(?:{_COMPONENT}|\*))*(?:\.\*\*)?|\*\*)\Z")


def _fits(text: str) -> bool:
    # A lone surrogate has no UTF-8, but the regular expression would accept it.
    try:
        return len(text) <= MAX_BYTES and len(text.encode()) <= MAX_BYTES
    except UnicodeEncodeError:
        return False


def is_name(text: str) -> bool:
    """Return whether the text is a well-formed name."""
    # Texts that are too long do not enter the cache: thousands of them could take a gigabyte.
    return len(text) <= MAX_BYTES and _is_name(text)


@lru_cache(maxsize=16384)
def _is_name(text: str) -> bool:
    return _fits(text) and _NAME.match(text) is not None


def check_name(text: str, member: str) -> str:
    """Return the text. Raise `invalid_message`, naming the member, if it is no name."""
    if not is_name(text):
        raise invalid(member, why_not(text))
    return text


def is_reserved(name: str) -> bool:
    """Return whether only the server (or the protocol) may publish under this name."""
    return name.startswith(RESERVED)


def why_not(text: str) -> str:
    """Return the reason why the text is no name."""
    if not text:
        return "must not be empty"
    if not _fits(text):
        return f"longer than {MAX_BYTES} bytes, or not Unicode text"
    return "components are joined by single dots and hold no '#', '*', white space or control character"


class Pattern:
    """A parsed pattern; two patterns are equal if their texts are.

    `parts` are its components, `*` for any one. If `tail` is None, a matching name has exactly as many; else one or more
    components follow, the first of which begins with `tail`: `""` for `**`. Non-empty tails, and wildcards without a star,
    come from WAMP only (`prefixed`, `wildcard`); the JSON protocol has no syntax for them.
    """

    __slots__ = ("exact", "tail", "text")

    def __init__(self, text: str, tail: str | None, exact: bool) -> None:
        self.text = text
        self.tail = tail
        self.exact = exact

    @property
    def parts(self) -> tuple[str, ...]:
        # Not stored: a text of 255 bytes may have 128 components, each an object of 50 bytes.
        if self.tail is not None:
            return tuple(self.text[: -len("**")].split(".")[:-1])
        return tuple(self.text.removeprefix(".").split("."))

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Return the pattern with this text, which must be well-formed (see `parse_pattern`)."""
        if text.rpartition(".")[2] == "**":
            return cls(text, "", False)
        return cls(text, None, "*" not in text)

    @classmethod
    def prefixed(cls, prefix: str) -> Pattern:
        """Return the pattern for all names that begin with these characters (WAMP's match policy `prefix`)."""
        return cls(f"{prefix}**", prefix.rpartition(".")[2], False)

    @classmethod
    def wildcard(cls, uri: str) -> Pattern:
        """Return the pattern for names of as many components; an empty one matches any (WAMP's match policy `wildcard`)."""
        parts = [part or "*" for part in uri.split(".")]
        # Without an empty component it matches one name only, but remains another subscription than the one to that name.
        return cls(".".join(parts) if "*" in parts else f".{uri}", None, False)

    @classmethod
    def of_text(cls, text: str) -> Pattern:
        """Return the pattern that has this text, of whichever protocol it is."""
        if text.endswith("**"):
            return cls(text, text[: -len("**")].rpartition(".")[2], False)
        return cls(text, None, "*" not in text and not text.startswith("."))

    @property
    def policy(self) -> tuple[str, str]:
        """WAMP's match policy and URI for the pattern. A pattern with stars and a tail, which WAMP lacks, keeps its text."""
        match = self.match
        if match == "prefix":
            return match, self.text[: -len("**")]
        if match == "exact" or self.tail is not None:
            return match, self.text
        return match, ".".join("" if part == "*" else part for part in self.parts)

    @property
    def match(self) -> str:
        """WAMP's match policy for the pattern, without the URI."""
        if self.exact:
            return "exact"
        return "wildcard" if self.tail is None or "*" in self.text[: -len("**")] else "prefix"

    def matches(self, name: str) -> bool:
        """Return whether the pattern matches the name."""
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
        """The first component as written: a name's, `*`, or the tail if there are no components."""
        parts = self.parts
        return parts[0] if parts else self.tail or ""

    def selects(self, name: str) -> bool:
        """Return whether to deliver a matching name: a reserved name needs a pattern with the same first component
        (`wamp.**`, not `**`)."""
        return not is_reserved(name) or self.first == name.partition(".")[0]

    def selects_all_of(self, other: Pattern) -> bool:
        """Return whether the pattern selects every name that `other`, which it covers, selects."""
        if other.exact:
            return self.selects(other.text)
        return other.first not in _RESERVED_FIRST or self.first == other.first

    def covers(self, other: Pattern) -> bool:
        """Return whether the pattern matches every name that `other` matches."""
        own, others = self.parts, other.parts
        fixed = len(own)
        if self.tail is None:
            if other.tail is not None or len(others) != fixed:
                return False
        elif len(others) > fixed:
            if not others[fixed].startswith(self.tail):  # a star in `other` begins only with itself
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
    """Return the pattern. Raise `invalid_message`, naming the member, if the text is none."""
    pattern = _parse(text) if len(text) <= MAX_BYTES else None
    if pattern is None:
        raise invalid(member, "'*' stands for a whole component and '**' only at the end" if "*" in text else why_not(text))
    return pattern


EVERYTHING: Final = Pattern.parse("**")
