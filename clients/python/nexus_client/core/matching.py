"""Patterns of event types, and filters on event data: the same answers as the server's."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

_WORD: Final = r"[^.#*\s\x00-\x1f\x7f-\x9f]+"
_NAME: Final = re.compile(rf"{_WORD}(\.{_WORD})*")
_PATTERN: Final = re.compile(rf"\*\*|({_WORD}|\*)(\.({_WORD}|\*))*(\.\*\*)?")
_RESERVED: Final = ("nexus.", "wamp.")
_MISSING: Final = object()


def _short(text: str) -> bool:
    return len(text) <= 255 and len(text.encode("utf-8", "replace")) <= 255


def check_name(text: str, member: str) -> str:
    """Return the name of an event type, a command or an agent. Raise `ValueError`, naming the member, if it is none."""
    if not _short(text) or not _NAME.fullmatch(text):
        raise ValueError(f"{member}: {text!r} is no name: words joined by single dots, without '#', '*' and white space")
    return text


class Pattern:
    """A pattern: `*` matches one component, `**` at the end one or more."""

    __slots__ = ("_parts", "_tail", "exact", "text")

    def __init__(self, text: str) -> None:
        parts = text.split(".")
        self.text = text
        self._tail = parts[-1] == "**"
        self._parts = parts[:-1] if self._tail else parts
        self.exact = "*" not in text

    def selects(self, name: str) -> bool:
        """Return whether the server delivers events of that type for this pattern.

        Names under `nexus.` and `wamp.` need a pattern that begins with that word.
        """
        if self.exact:
            return name == self.text
        if name.startswith(_RESERVED) and self.text.partition(".")[0] != name.partition(".")[0]:
            return False
        parts = name.split(".")
        if len(parts) <= len(self._parts) if self._tail else len(parts) != len(self._parts):
            return False
        return all(mine in ("*", theirs) for mine, theirs in zip(self._parts, parts, strict=False))

    def overlaps(self, other: Pattern) -> bool:
        """Return whether some name may match both."""
        mine, theirs = self._parts, other._parts
        if not self._tail and (len(theirs) >= len(mine) if other._tail else len(theirs) != len(mine)):
            return False
        if self._tail and not other._tail and len(mine) >= len(theirs):
            return False
        return all(a == b or "*" in (a, b) for a, b in zip(mine, theirs, strict=False))


@lru_cache(maxsize=4096)
def parse_pattern(text: str) -> Pattern:
    """Return the pattern. Raise `ValueError` if the text is none."""
    if not _short(text) or not _PATTERN.fullmatch(text):
        raise ValueError(f"{text!r} is no pattern: words joined by dots, '*' for a whole word, '**' only at the end")
    return Pattern(text)


def equal(value: Any, wanted: Any) -> bool:
    """Return whether two JSON values are equal: 1 equals 1.0, but `true` does not equal 1."""
    if isinstance(wanted, bool) or wanted is None or isinstance(value, bool):
        return value is wanted
    if isinstance(wanted, Mapping):
        return (
            isinstance(value, Mapping)
            and len(value) == len(wanted)
            and all(name in value and equal(value[name], member) for name, member in wanted.items())
        )
    if isinstance(wanted, list | tuple):
        return isinstance(value, list | tuple) and len(value) == len(wanted) and all(map(equal, value, wanted))
    return bool(value == wanted)


def lookup(data: Any, name: str) -> Any:
    """Return the member of that name, else the one at that dotted path, else `_MISSING`."""
    if not isinstance(data, Mapping):
        return _MISSING
    if name in data:
        return data[name]
    for part in name.split("."):
        if not isinstance(data, Mapping) or part not in data:
            return _MISSING
        data = data[part]
    return data


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _order(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def test(value: Any, bound: Any) -> bool:
        if isinstance(bound, str):
            return isinstance(value, str) and compare(value, bound)
        return _is_number(value) and compare(value, bound)

    return test


def _ordered(operand: Any) -> bool:
    return isinstance(operand, str) or _is_number(operand)


# Each operator: what its operand must be, and its test of a value that may be missing.
_OPERATORS: Final[dict[str, tuple[str, Callable[[Any], bool], Callable[[Any, Any], bool]]]] = {
    "gt": ("a number or a string", _ordered, _order(operator.gt)),
    "gte": ("a number or a string", _ordered, _order(operator.ge)),
    "lt": ("a number or a string", _ordered, _order(operator.lt)),
    "lte": ("a number or a string", _ordered, _order(operator.le)),
    "ne": ("any value", lambda _: True, lambda value, other: value is _MISSING or not equal(value, other)),
    "in": (
        "a list",
        lambda operand: isinstance(operand, list | tuple),
        lambda value, choices: value is not _MISSING and any(equal(value, choice) for choice in choices),
    ),
    "exists": (
        "true or false",
        lambda operand: isinstance(operand, bool),
        lambda value, wanted: (value is not _MISSING) is wanted,
    ),
    "prefix": (
        "a string",
        lambda operand: isinstance(operand, str),
        lambda value, prefix: isinstance(value, str) and value.startswith(prefix),
    ),
}


class Filter:
    """A compiled filter. Filters with equal `key` ask for the same events."""

    __slots__ = ("_tests", "key")

    def __init__(self, where: Mapping[str, Any]) -> None:
        self.key = msgspec.json.encode(where, order="deterministic").decode()
        self._tests: list[tuple[str, Callable[[Any, Any], bool], Any]] = []
        for name, wanted in where.items():
            if isinstance(wanted, Mapping) and wanted and wanted.keys() <= _OPERATORS.keys():
                for word, operand in wanted.items():
                    expected, accepts, test = _OPERATORS[word]
                    if not accepts(operand):
                        raise ValueError(f"where.{name}.{word}: expected {expected}")
                    self._tests.append((name, test, operand))
            else:
                self._tests.append((name, _present_and_equal, wanted))

    def matches(self, data: Any) -> bool:
        """Return whether every member of the filter matches the event's data."""
        return all(test(lookup(data, name), operand) for name, test, operand in self._tests)


def _present_and_equal(value: Any, wanted: Any) -> bool:
    return value is not _MISSING and equal(value, wanted)
