"""Filters over event data: compile, compare by JSON equality, and name what they ask for so that the hub can index it.

JSON equality: 1 equals 1.0, `true` does not equal 1, objects and lists compare by value, `null` equals only a `null` that is
there. Order compares numbers with numbers and strings with strings, else it does not match.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable
from typing import Any, Final

from nexus_tw.errors import NexusError, invalid

MISSING: Final = object()

_TRUE: Final = ("true",)
_FALSE: Final = ("false",)
_NULL: Final = ("null",)


def canonical(value: Any) -> Hashable:
    """A hashable form in which two JSON values are equal exactly when JSON equality says so.

    Strings and numbers stand for themselves (Python keeps them apart, and 1 equal to 1.0); the rest is tagged.
    """
    kind = type(value)
    if kind is str or kind is int or kind is float:
        return value  # type: ignore[no-any-return]
    if value is None:
        return _NULL
    if kind is bool:
        return _TRUE if value else _FALSE
    if kind is list:
        return ("list", tuple(map(canonical, value)))
    return ("object", frozenset((name, canonical(member)) for name, member in value.items()))


def lookup(data: Any, name: str) -> Any:
    """The member of that name; a name that is not there is read as a dotted path. `MISSING` where neither leads anywhere."""
    if type(data) is not dict:
        return MISSING
    value = data.get(name, MISSING)
    if value is MISSING and "." in name:
        value = data
        for part in name.split("."):
            if type(value) is not dict:
                return MISSING
            value = value.get(part, MISSING)
            if value is MISSING:
                return MISSING
    return value


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def test(value: Any, bound: Any) -> bool:
        kind = type(value)
        if kind is str:
            return type(bound) is str and compare(value, bound)
        return (kind is int or kind is float) and type(bound) is not str and compare(value, bound)

    return test


def _is_in(value: Any, choices: frozenset[Hashable]) -> bool:
    return value is not MISSING and canonical(value) in choices


def _differs(value: Any, other: Hashable) -> bool:
    return value is MISSING or canonical(value) != other


def _exists(value: Any, wanted: bool) -> bool:
    return (value is not MISSING) is wanted


def _starts(value: Any, prefix: str) -> bool:
    return type(value) is str and value.startswith(prefix)


def _bound(name: str, operand: Any) -> Any:
    if type(operand) not in (int, float, str):
        raise invalid(name, "expected a number or a string")
    return operand


def _list(name: str, operand: Any) -> frozenset[Hashable]:
    if type(operand) is not list:
        raise invalid(name, "expected a list")
    return frozenset(map(canonical, operand))


def _bool(name: str, operand: Any) -> bool:
    if type(operand) is not bool:
        raise invalid(name, "expected true or false")
    return operand


def _string(name: str, operand: Any) -> str:
    if type(operand) is not str:
        raise invalid(name, "expected a string")
    return operand


_OPERATORS: Final[dict[str, tuple[Callable[[str, Any], Any], Callable[[Any, Any], bool]]]] = {
    "gt": (_bound, _ordered(operator.gt)),
    "gte": (_bound, _ordered(operator.ge)),
    "lt": (_bound, _ordered(operator.lt)),
    "lte": (_bound, _ordered(operator.le)),
    "ne": (lambda _name, operand: canonical(operand), _differs),
    "in": (_list, _is_in),
    "exists": (_bool, _exists),
    "prefix": (_string, _starts),
}


class Filter:
    """A compiled filter. Two filters that ask for the same thing have the same `identity`."""

    __slots__ = ("equal", "identity", "tests")

    def __init__(self, members: dict[str, Any]) -> None:
        equal: list[tuple[str, Hashable]] = []
        tests: list[tuple[str, str, Any]] = []
        for name, wanted in members.items():
            if type(wanted) is dict and wanted and wanted.keys() <= _OPERATORS.keys():
                for word, operand in wanted.items():
                    tests.append((name, word, _OPERATORS[word][0](f"filters.{name}.{word}", operand)))
            else:
                equal.append((name, canonical(wanted)))
        self.equal = tuple(sorted(equal, key=operator.itemgetter(0)))
        self.tests = tuple(tests)
        self.identity: Hashable = (frozenset(equal), frozenset((n, w, type(o) is bool, o) for n, w, o in tests))

    def matches(self, data: Any) -> bool:
        """Whether decoded event data passes every condition."""
        for name, wanted in self.equal:
            value = lookup(data, name)
            if value is MISSING or canonical(value) != wanted:
                return False
        return all(_OPERATORS[word][1](lookup(data, name), operand) for name, word, operand in self.tests)


def compile_filter(members: dict[str, Any] | None, max_nodes: int) -> Filter | None:
    """None for no filter (absent or empty). `limit_exceeded` past `max_nodes` JSON values in it (0: no limit)."""
    if not members:
        return None
    if max_nodes and _nodes(members, max_nodes) > max_nodes:
        raise NexusError("limit_exceeded", f"filters: more than {max_nodes} values")
    try:
        return Filter(members)
    except RecursionError:  # only where `max_nodes` does not bound it
        raise invalid("filters", "nested too deep") from None


def _nodes(members: dict[str, Any], enough: int) -> int:
    """How many JSON values there are, names not counted; stops counting soon after `enough`."""
    count = 0
    waiting: list[Any] = [members]
    while waiting and count <= enough:
        value = waiting.pop()
        children = value.values() if type(value) is dict else value
        for child in children:
            count += 1
            if type(child) in (dict, list):
                waiting.append(child)
    return count
