from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexus_tw.model.errors import NexusError
from nexus_tw.model.filters import Facts, Filter, canonical, compile_filter, equal, scalar_key
from nexus_tw.model.names import Pattern
from nexus_tw.pubsub.groups import Bucket

MISSING = object()
WORDS = {"gt", "gte", "lt", "lte", "ne", "in", "exists", "prefix"}

NUMBERS = st.sampled_from([0, 1, 1.0, -1, 2, 1.5, 2**53, 2**53 + 1, 1e300, 10**30, 0.0, -0.0])
STRINGS = st.sampled_from(["", "a", "ab", "b", "1", "true", "null", "é", "list", "object"])
SCALARS = st.none() | st.booleans() | NUMBERS | STRINGS
NAMES = st.sampled_from(["a", "b", "c", "a.b", "a.b.c", "", "gt", "."])
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
CONDITIONS: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("gt", "gte", "lt", "lte"), NUMBERS | STRINGS),
        "ne": VALUES,
        "in": st.lists(VALUES, max_size=3),
        "exists": st.booleans(),
        "prefix": STRINGS,
    },
)
# A value that looks like a condition by chance could be one with an operand of the wrong kind.
PLAIN = VALUES.filter(lambda value: not (isinstance(value, dict) and value and value.keys() <= WORDS))
FILTERS = st.dictionaries(NAMES, PLAIN | CONDITIONS, max_size=3)
DATA = st.dictionaries(NAMES, VALUES, max_size=4) | VALUES


# --- the model, from the words of the contract


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def json_equal(one: Any, other: Any) -> bool:
    """Return whether two values are equal: 1 equals 1.0, `true` does not equal 1, objects and lists compare by value, `null`
    equals only `null`."""
    if is_number(one) and is_number(other):
        return bool(one == other)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return set(one) == set(other) and all(json_equal(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(json_equal, one, other))
    return bool(one == other)


def member(data: Any, name: str) -> Any:
    """Return the event's member of that name; an absent name is read as a dotted path."""
    if not isinstance(data, dict):
        return MISSING
    if name in data:
        return data[name]
    for part in name.split("."):
        if not isinstance(data, dict) or part not in data:
            return MISSING
        data = data[part]
    return data


def compares(word: str, operand: Any, value: Any) -> bool:
    if word == "exists":
        return (value is not MISSING) is operand
    if word == "ne":
        return value is MISSING or not json_equal(value, operand)
    if value is MISSING:
        return False
    if word == "in":
        return any(json_equal(value, choice) for choice in operand)
    if word == "prefix":
        return isinstance(value, str) and value.startswith(operand)
    if not (is_number(value) and is_number(operand)) and not (isinstance(value, str) and isinstance(operand, str)):
        return False
    return bool({"gt": value > operand, "gte": value >= operand, "lt": value < operand, "lte": value <= operand}[word])


def passes(members: dict[str, Any], data: Any) -> bool:
    for name, wanted in members.items():
        value = member(data, name)
        if isinstance(wanted, dict) and wanted and wanted.keys() <= WORDS:
            if not all(compares(word, operand, value) for word, operand in wanted.items()):
                return False
        elif value is MISSING or not json_equal(value, wanted):
            return False
    return True


@given(FILTERS, DATA)
@example({"a": {"gt": 1}}, {"a": True})
@example({"a": True}, {"a": 1})
@example({"a": [1, True, None]}, {"a": [1.0, True, None]})
@example({"a": [["list", []]]}, {"a": [[]]})
@example({"a.b": 1}, {"a.b": 2, "a": {"b": 1}})
def test_a_filter_passes_what_a_naive_reading_of_the_contract_does(members: dict[str, Any], data: Any) -> None:
    assert Filter(members).matches(Facts(data)) == passes(members, data)


@given(VALUES, VALUES)
def test_canonical_forms_are_equal_exactly_when_json_is(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == json_equal(one, other)
    hash(canonical(one))


# --- the contract, row by row


@pytest.mark.parametrize(
    ("members", "data", "passed"),
    [
        # JSON equality
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": True}, {"a": True}, True),
        ({"a": True}, {"a": 1}, False),
        ({"a": False}, {"a": 0}, False),
        ({"a": {"b": [1, {"c": None}]}}, {"a": {"b": [1.0, {"c": None}]}}, True),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, True),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": None}, {"a": None}, True),
        ({"a": None}, {}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": {}}, {"a": {}}, True),
        ({"a": []}, {"a": []}, True),
        ({"a": []}, {"a": {}}, False),
        # every member must be equal
        ({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
        # dotted paths, only where the event does not have the name itself
        ({"a.b": 1}, {"a": {"b": 1}}, True),
        ({"a.b": 1}, {"a.b": 1}, True),
        ({"a.b": 1}, {"a.b": 2, "a": {"b": 1}}, False),
        ({"a.b.c": 1}, {"a": {"b": {"c": 1}}}, True),
        ({"a.b.c": 1}, {"a": {"b.c": 1}}, False),
        ({"a.0": 1}, {"a": [1]}, False),
        # comparisons
        ({"a": {"gt": 1}}, {"a": 1}, False),
        ({"a": {"gt": 1}}, {"a": 1.5}, True),
        ({"a": {"gte": 1, "lt": 2}}, {"a": 1}, True),
        ({"a": {"gte": 1, "lt": 2}}, {"a": 2}, False),
        ({"a": {"lte": "b"}}, {"a": "a"}, True),
        ({"a": {"lte": "b"}}, {"a": 1}, False),
        ({"a": {"gt": 0}}, {"a": "1"}, False),
        ({"a": {"gt": 0}}, {"a": True}, False),
        ({"a": {"gt": 0}}, {"a": None}, False),
        ({"a": {"ne": 1}}, {"a": True}, True),
        ({"a": {"ne": 1}}, {"a": 1.0}, False),
        ({"a": {"in": [1, "x", None]}}, {"a": None}, True),
        ({"a": {"in": [1, "x"]}}, {"a": True}, False),
        ({"a": {"in": [[1], {"b": 2}]}}, {"a": {"b": 2.0}}, True),
        ({"a": {"in": []}}, {"a": 1}, False),
        ({"a": {"prefix": "ab"}}, {"a": "abc"}, True),
        ({"a": {"prefix": ""}}, {"a": 1}, False),
        ({"a": {"exists": True}}, {"a": None}, True),
        # on a missing member only `ne` and `exists: false` match
        ({"a": {"ne": 1}}, {}, True),
        ({"a": {"exists": False}}, {}, True),
        ({"a": {"exists": True}}, {}, False),
        ({"a": {"gt": 0}}, {}, False),
        ({"a": {"in": [None]}}, {}, False),
        ({"a": {"prefix": ""}}, {}, False),
        ({"a": {"exists": False}}, {"a": None}, False),
        ({"a": {"exists": False}}, [1], True),
        ({"a": {"ne": 1}}, "text", True),
        # any other object is a value to be equal to
        ({"a": {"gt": 1, "x": 2}}, {"a": {"gt": 1, "x": 2}}, True),
        ({"a": {"gt": 1, "x": 2}}, {"a": 5}, False),
        ({"a": {"GT": 1}}, {"a": 2}, False),
        # exact numbers
        ({"a": 2**53 + 1}, {"a": float(2**53)}, False),
        ({"a": 0}, {"a": -0.0}, True),
    ],
)
def test_each_rule_of_the_contract(members: dict[str, Any], data: Any, passed: bool) -> None:
    assert Filter(members).matches(Facts(data)) is passed
    assert passes(members, data) is passed, "the model of these tests agrees"


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"a": {"gt": True}}, "filters.a.gt: expected a number or a string"),
        ({"a": {"lte": None}}, "filters.a.lte: expected a number or a string"),
        ({"a": {"gte": [1]}}, "filters.a.gte: expected a number or a string"),
        ({"a": {"in": "abc"}}, "filters.a.in: expected a list"),
        ({"a": {"exists": 1}}, "filters.a.exists: expected true or false"),
        ({"a": {"prefix": 1}}, "filters.a.prefix: expected a string"),
    ],
)
def test_an_operand_of_the_wrong_kind_is_named(members: dict[str, Any], why: str) -> None:
    with pytest.raises(NexusError) as caught:
        compile_filter(members, 64, 0)
    assert (caught.value.code, caught.value.message) == ("invalid_message", f"Invalid message format: {why}")


# --- identity


def shuffled(value: Any, order: random.Random) -> Any:
    """Return the same JSON in another form: members in another order, whole numbers as floats."""
    if isinstance(value, dict):
        names = list(value)
        order.shuffle(names)
        return {name: shuffled(value[name], order) for name in names}
    if isinstance(value, list):
        return [shuffled(item, order) for item in value]
    if is_number(value) and float(value) == value and order.random() < 0.5:
        return float(value)
    return value


@given(FILTERS, st.randoms(use_true_random=False))
def test_filters_that_ask_for_the_same_have_the_same_identity(members: dict[str, Any], order: random.Random) -> None:
    again = shuffled(members, order)
    for condition in again.values():
        if isinstance(condition, dict) and isinstance(condition.get("in"), list) and condition.keys() <= WORDS:
            condition["in"] = condition["in"] + condition["in"][:1]
            order.shuffle(condition["in"])
    assert Filter(members).identity == Filter(again).identity
    assert hash(Filter(members).identity) == hash(Filter(again).identity)


@given(FILTERS, FILTERS, st.lists(DATA, max_size=5))
def test_filters_with_one_identity_pass_the_same(one: dict[str, Any], other: dict[str, Any], data: list[Any]) -> None:
    if Filter(one).identity == Filter(other).identity:
        assert [Filter(one).matches(Facts(item)) for item in data] == [Filter(other).matches(Facts(item)) for item in data]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": True}),
        ({"a": 0}, {"a": False}),
        ({"a": None}, {"a": "null"}),
        ({"a": {"ne": 1}}, {"a": {"ne": True}}),
        ({"a": {"in": [1]}}, {"a": {"in": [True]}}),
        ({"a": {"exists": True}}, {"a": {"exists": False}}),
        ({"a": {"gt": 1}}, {"a": {"gte": 1}}),
        ({"a": {"gt": 1}}, {"a": {"gt": "1"}}),
        ({"a": {"ne": 1}}, {"a": 1}),
        ({"a": 1}, {"b": 1}),
        ({"a": []}, {"a": {}}),
        ({"a": ["true"]}, {"a": [True]}),
    ],
)
def test_filters_that_ask_for_different_things_are_told_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert Filter(one).identity != Filter(other).identity


# --- the index


@given(st.lists(FILTERS.filter(bool), max_size=8), st.lists(DATA, min_size=1, max_size=4), st.data())
def test_the_index_of_a_bucket_finds_what_asking_each_filter_would(
    filters: list[dict[str, Any]], events: list[Any], draw: st.DataObject
) -> None:
    bucket = Bucket(Pattern.parse("a"), 1, 0)
    groups = {group.filter.identity: group for group in map(bucket.group, map(Filter, filters)) if group.filter}
    for identity in draw.draw(st.lists(st.sampled_from(list(groups)), unique=True)) if groups else ():
        bucket.drop(groups.pop(identity))
    assert bucket.filtered == bool(groups)
    for data in events:
        found = list(bucket.matching(Facts(data)))
        assert len(found) == len(set(found)), "each once"
        assert set(found) == {group for group in groups.values() if group.filter and group.filter.matches(Facts(data))}
    for group in groups.values():
        bucket.drop(group)
    assert not bucket.index and not bucket.scanned and not bucket.groups and not bucket.filtered


def test_groups_that_ask_for_a_value_are_found_by_it_and_not_by_asking_each() -> None:
    bucket = Bucket(Pattern.parse("a"), 1, 0)
    for number in range(1000):
        bucket.group(Filter({"kind": "all have this", "agentId": f"agent-{number}"}))
    largest = max(len(groups) for values in bucket.index.values() for groups in values.values())
    assert largest == 1, "the value that few share is the one to look for"
    assert not bucket.scanned


# --- what an event costs


@given(VALUES, VALUES)
def test_values_are_compared_as_json_equality_says(one: Any, other: Any) -> None:
    assert equal(one, other) == json_equal(one, other)
    assert equal(one, one)
    if scalar_key(one) is not None and scalar_key(other) is not None:
        assert (scalar_key(one) == scalar_key(other)) == json_equal(one, other)


class Dear(list[Any]):
    """A list that must not be looked into."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError

    def __getitem__(self, _place: Any) -> Any:
        raise AssertionError


@given(VALUES.filter(lambda value: value != []))
def test_a_large_value_is_not_gone_through_by_a_small_operand(operand: Any) -> None:
    """64 kB of an event beside thousands of `ne`: what the operand cannot be equal to is not walked."""
    facts = Facts({"a": Dear([0] * 60_000), "b": dict.fromkeys(map(str, range(10_000)), Dear())})
    for name in ("a", "b", "b.17"):
        assert Filter({name: {"ne": operand}}).matches(facts)
        assert Filter({name: {"ne": [operand]}}).matches(facts)
        assert not Filter({name: {"in": [operand, [operand], {"x": operand}]}}).matches(facts)


def test_each_value_is_looked_up_once_for_the_filters_of_all_patterns() -> None:
    asked: list[str] = []

    class Counted(Facts):
        def __missing__(self, name: str) -> Any:
            asked.append(name)
            return super().__missing__(name)

    facts = Counted({"a": {"b": [1]}, "kind": "x"})
    buckets = [Bucket(Pattern.parse(text), number, 0) for number, text in enumerate(("t", "*", "**"))]
    for bucket in buckets:
        for number in range(128):
            bucket.group(Filter({"a.b": {"ne": number}, "a.c": {"ne": number}, "kind": {"ne": number}}))
            bucket.group(Filter({"kind": "x", "a.b": {"ne": number}, "a": {"exists": True}}))
    assert [len(list(bucket.matching(facts))) for bucket in buckets] == [256, 256, 256]
    assert sorted(asked) == ["a", "a.b", "a.c", "kind"]


def test_numbers_that_clients_choose_have_no_place_in_the_index_that_they_could_know() -> None:
    """Python places a number by its lower bits, so thousands could be made to share a place; not with a text beside them."""
    bucket = Bucket(Pattern.parse("a"), 1, 0)
    for number in range(100):
        bucket.group(Filter({"n": number << 40}))
    (values,) = bucket.index.values()
    assert not any(type(value) in (int, float) for value in values)
    assert len(list(bucket.matching(Facts({"n": float(7 << 40)})))) == 1


@pytest.mark.parametrize(
    ("members", "weight"),
    [({"a": 1}, 1), ({"a.b.c": 1}, 3), ({"a": {"gt": 1, "lt": 2}, "b.c": [None]}, 6), ({"a": {"b.c": {"d.e": 1}}}, 3)],
)
def test_a_filter_weighs_its_values_and_the_parts_of_its_names(members: dict[str, Any], weight: int) -> None:
    assert Filter(members).weight == weight


# --- limits


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("n" * 255, True),
        ("n" * 256, False),
        ("é" * 127, True),
        ("é" * 128, False),
        (".".join("a" * 32), True),
        (".".join("a" * 33), False),
        ("." * 60_000, False),
        ("n" * 200_000, False),
    ],
)
def test_names_of_filters_are_bounded_in_bytes_and_components(name: str, fits: bool) -> None:
    if fits:
        assert compile_filter({name: 1}, 64, 8192) is not None
        return
    with pytest.raises(NexusError) as caught:
        compile_filter({name: {"exists": True}}, 64, 0)
    why = "filters: a name has more than 255 bytes or 32 components"
    assert (caught.value.code, caught.value.message) == ("limit_exceeded", why)


def test_the_operands_of_a_filter_are_bounded_in_bytes() -> None:
    for members in ({"a": "x" * 90}, {"a": {"prefix": "x" * 80}}, {"a": {"in": ["x" * 40] * 2}}, {"a": {"x" * 90: 1}}):
        with pytest.raises(NexusError) as caught:
            compile_filter(members, 64, 90)
        assert (caught.value.code, caught.value.message) == ("limit_exceeded", "filters: more than 90 bytes")
        assert compile_filter(members, 64, 110) is not None
        assert compile_filter(members, 64, 0) is not None, "0: no limit"


def test_no_filter_is_no_filter() -> None:
    assert compile_filter(None, 64, 0) is None
    assert compile_filter({}, 64, 0) is None


@pytest.mark.parametrize(
    ("members", "values"),
    [
        ({"a": 1}, 1),
        ({"a": {"gt": 1, "lt": 2}}, 3),
        ({"a": [1, [2, 3]]}, 5),
        ({"a": {}, "b": []}, 2),
        ({"a": [{"b": [None]}]}, 4),
    ],
)
def test_a_filter_may_have_so_many_values_and_no_more(members: dict[str, Any], values: int) -> None:
    assert compile_filter(members, values, 0) is not None
    if values > 1:
        with pytest.raises(NexusError) as caught:
            compile_filter(members, values - 1, 0)
        assert (caught.value.code, caught.value.message) == ("limit_exceeded", f"filters: more than {values - 1} values")
    assert compile_filter(members, 0, 0) is not None, "0: no limit"


def test_a_filter_nested_deeper_than_python_can_follow_is_refused() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(NexusError, match="Invalid message format: filters: nested too deep"):
        compile_filter({"a": value}, 0, 0)
    with pytest.raises(NexusError, match="filters: more than 64 values"):
        compile_filter({"a": value}, 64, 0)
