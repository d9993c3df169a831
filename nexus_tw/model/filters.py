"""Filters on event data: compile them, match by JSON equality, and expose what they test so that the hub can index them.

JSON equality: 1 equals 1.0, `true` does not equal 1, objects and lists compare by value, `null` equals only a `null` that is
present. Order compares numbers with numbers and strings with strings; other pairs do not match.

The cost of an event is bounded by the filters, whatever its data: each name is looked up once for all filters (`Facts`), and
a comparison visits no more of a value than its operand has.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable
from typing import Any, Final

import msgspec

from nexus_tw.model.errors import NexusError, invalid

MISSING: Final = object()
NAME_BYTES: Final = 255  # of a name in a filter
PATH: Final = 32  # components of a name that is read as a path

_encode: Final = msgspec.json.Encoder().encode
_TRUE: Final = ("true",)
_FALSE: Final = ("false",)
_NULL: Final = ("null",)


def canonical(value: Any) -> Hashable:
    """Return a hashable form of a JSON value; two forms are equal exactly if the values are equal by JSON equality.

    Strings and numbers are their own form (in Python 1 equals 1.0, and no string); other values are tagged.
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


def scalar_key(value: Any) -> Hashable | None:
    """Return the key under which a scalar is indexed; None for objects, lists and `MISSING`.

    A number is not its own key: clients could choose numbers with equal hashes.
    """
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is int or kind is float:
        return ("number", value)
    if value is None:
        return _NULL
    return (_TRUE if value else _FALSE) if kind is bool else None


def equal(value: Any, wanted: Any) -> bool:
    """Return whether the two JSON values are equal; visits no more values than `wanted` has."""
    kind = type(wanted)
    if kind is list:
        if type(value) is not list or len(value) != len(wanted):
            return False
        return all(map(equal, value, wanted))
    if kind is dict:
        if type(value) is not dict or len(value) != len(wanted):
            return False
        return all(equal(value.get(name, MISSING), theirs) for name, theirs in wanted.items())
    return _same(wanted)(value, wanted)


def _same_number(value: Any, wanted: Any) -> bool:
    return value == wanted and type(value) is not bool


# By the type of the wanted value. For other types `==` is right: only text equals a text.
_SAME: Final[dict[type, Callable[[Any, Any], bool]]] = {
    int: _same_number,
    float: _same_number,
    bool: operator.is_,
    type(None): operator.is_,
    list: equal,
    dict: equal,
}


def _same(wanted: Any) -> Callable[[Any, Any], bool]:
    """Return the function that compares a value with one of this type."""
    return _SAME.get(type(wanted), operator.eq)


class Facts(dict[str, Any]):
    """The members of one event by the names in filters, each looked up once; `MISSING` for absent ones."""

    __slots__ = ("_data",)

    def __init__(self, data: Any) -> None:
        super().__init__()
        self._data = data

    def __missing__(self, name: str) -> Any:
        value = self[name] = lookup(self._data, name)
        return value


def lookup(data: Any, name: str) -> Any:
    """Return the member with that name, or else the one at that dotted path. `MISSING` if there is neither."""
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


def _is_in(value: Any, choices: tuple[frozenset[Hashable], list[Any]]) -> bool:
    scalars, others = choices
    known = scalar_key(value)
    if known is not None:
        return known in scalars
    return any(equal(value, other) for other in others)


def _differs(value: Any, other: Any) -> bool:
    return not equal(value, other)


def _exists(value: Any, wanted: bool) -> bool:
    return (value is not MISSING) is wanted


def _starts(value: Any, prefix: str) -> bool:
    return type(value) is str and value.startswith(prefix)


def _bound(name: str, operand: Any) -> Any:
    if type(operand) not in (int, float, str):
        raise invalid(name, "expected a number or a string")
    return operand


def _list(name: str, operand: Any) -> tuple[frozenset[Hashable], list[Any]]:
    if type(operand) is not list:
        raise invalid(name, "expected a list")
    known = [(scalar_key(choice), choice) for choice in operand]
    return frozenset(found for found, _ in known if found is not None), [choice for found, choice in known if found is None]


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
    "ne": (lambda _name, operand: operand, _differs),
    "in": (_list, _is_in),
    "exists": (_bool, _exists),
    "prefix": (_string, _starts),
}


class Filter:
    """A compiled filter. Equivalent filters, up to the order of their members and of `in` lists, have equal `identity`.

    `keys` are the members that must equal a scalar, each with its `scalar_key`. `weight` bounds the work for one event: the
    number of values in the filter plus the dots in its names.
    """

    __slots__ = ("identity", "keys", "tests", "weight")

    def __init__(self, members: dict[str, Any]) -> None:
        equals: list[tuple[str, Any]] = []
        orders: list[tuple[str, str, Any]] = []
        for name, wanted in members.items():
            if type(wanted) is dict and wanted and wanted.keys() <= _OPERATORS.keys():
                orders += ((name, word, operand) for word, operand in wanted.items())
            else:
                equals.append((name, wanted))
        equals.sort(key=operator.itemgetter(0))
        self.tests: tuple[tuple[str, Callable[[Any, Any], bool], Any], ...] = (
            *((name, _same(wanted), wanted) for name, wanted in equals),
            *(
                (name, _OPERATORS[word][1], _OPERATORS[word][0](f"filters.{name}.{word}", operand))
                for name, word, operand in orders
            ),
        )
        self.keys = tuple((name, found) for name, wanted in equals if (found := scalar_key(wanted)) is not None)
        self.weight = _nodes(members, 0) + sum(name.count(".") for name in members)
        self.identity: Hashable = (
            frozenset((name, canonical(wanted)) for name, wanted in equals),
            frozenset((name, word, _asked(word, operand)) for name, word, operand in orders),
        )

    def matches(self, facts: Facts) -> bool:
        """Return whether an event meets every condition."""
        for name, test, operand in self.tests:  # noqa: SIM110 - a generator for each filter and event costs more than most tests
            if not test(facts[name], operand):
                return False
        return True


def _asked(word: str, operand: Any) -> Hashable:
    """Return the operand's form for `identity`; the order of an `in` list does not matter."""
    return frozenset(map(canonical, operand)) if word == "in" else canonical(operand)


def compile_filter(members: dict[str, Any] | None, max_nodes: int, max_bytes: int) -> Filter | None:
    """Return the compiled filter; None if it is absent or empty.

    Raise `limit_exceeded` if it has more than `max_nodes` JSON values or more than `max_bytes` as JSON (0: no limit of this
    kind), or too long a name; `invalid_message` if an operand has the wrong type or is nested too deep.
    """
    if not members:
        return None
    if max_nodes and _nodes(members, max_nodes) > max_nodes:
        raise NexusError("limit_exceeded", f"filters: more than {max_nodes} values")
    for name in members:
        if len(name) > NAME_BYTES or len(name.encode()) > NAME_BYTES or name.count(".") >= PATH:
            raise NexusError("limit_exceeded", f"filters: a name has more than {NAME_BYTES} bytes or {PATH} components")
    try:
        if max_bytes and len(_encode(members)) > max_bytes:
            raise NexusError("limit_exceeded", f"filters: more than {max_bytes} bytes")
        return Filter(members)
    except RecursionError:  # only if `max_nodes` does not bound it
        raise invalid("filters", "nested too deep") from None


def _nodes(members: dict[str, Any], enough: int) -> int:
    """Return the number of JSON values, without names; stops counting soon after `enough` (0: never)."""
    count = 0
    waiting: list[Any] = [members]
    while waiting and (not enough or count <= enough):
        value = waiting.pop()
        children = value.values() if type(value) is dict else value
        for child in children:
            count += 1
            if type(child) in (dict, list):
                waiting.append(child)
    return count
