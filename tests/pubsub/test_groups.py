"""The groups of a pattern that an event selects, and their members."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.filters import Facts, compile_filter
from nexus_tw.model.names import Pattern
from nexus_tw.pubsub.groups import Bucket, Cohort, Group, Subscriber
from tests.recording import RecordingEncoding, RecordingPeer

SCALARS = st.sampled_from([0, 1, True, "x", None, 1.0])
CONDITIONS = SCALARS | st.sampled_from([[1], {"gt": 0}, {"in": [1, "x"]}, {"exists": True}])
FILTERS = st.dictionaries(st.sampled_from("abc"), CONDITIONS, max_size=3)
EVENTS = st.dictionaries(st.sampled_from("abc"), SCALARS | st.just([1]), max_size=3)


def bucket_of(filters: list[dict[str, Any]]) -> tuple[Bucket, list[Group]]:
    bucket = Bucket(Pattern.parse("a"), 1, 0)
    return bucket, list(dict.fromkeys(bucket.group(compile_filter(each, 0, 0)) for each in filters))


@given(st.lists(FILTERS, max_size=12), st.lists(EVENTS, min_size=1, max_size=4), st.data())
def test_the_groups_found_are_those_whose_filter_passes_each_once_also_after_some_went(
    filters: list[dict[str, Any]], events: list[dict[str, Any]], data: st.DataObject
) -> None:
    bucket, groups = bucket_of(filters)
    for group in data.draw(st.lists(st.sampled_from(groups), unique=True)) if groups else ():
        bucket.drop(group)
        groups.remove(group)
    plain = [group for group in groups if group.filter is None]
    assert [bucket.plain] == plain if plain else bucket.plain is None
    assert bucket.filtered == any(group.filter is not None for group in groups)
    for event in events:
        found = list(bucket.matching(Facts(event)))
        passed = [group for group in groups if group.filter is not None and group.filter.matches(Facts(event))]
        assert len(found) == len(passed) and set(found) == set(passed)


@given(st.lists(FILTERS, max_size=12))
def test_a_bucket_without_groups_keeps_nothing(filters: list[dict[str, Any]]) -> None:
    bucket, groups = bucket_of(filters)
    for group in groups:
        bucket.drop(group)
    assert not bucket.groups and bucket.plain is None and not bucket.index and not bucket.scanned and not bucket.filtered


def test_filters_that_ask_for_the_same_are_one_group() -> None:
    bucket, groups = bucket_of([{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": {"in": [1, 2]}}, {"a": {"in": [2, 1]}}, {}, {}])
    assert len(groups) == len(bucket.groups) == 3


def test_a_group_is_found_by_the_equality_that_it_shares_with_the_fewest() -> None:
    bucket, groups = bucket_of([{"kind": "x"}, {"kind": "x", "id": 1}, {"kind": "x", "id": 2}])
    indexed = [group.indexed and group.indexed[0] for group in groups]
    assert indexed == ["kind", "id", "id"]
    assert not bucket.scanned


def test_a_peer_that_is_in_several_groups_of_a_pattern_is_told_of_once() -> None:
    bucket, groups = bucket_of([{}, {"a": 1}])
    subscriber = Subscriber(RecordingPeer())
    cohort = Cohort(("key", frozenset(groups)), RecordingEncoding())
    cohort.members[subscriber] = None
    for group in groups:
        group.cohorts[cohort] = None
    assert bucket.peers() == [subscriber.peer]


def test_a_subscriber_counts_its_pairs_and_knows_the_buckets_of_its_patterns() -> None:
    subscriber = Subscriber(RecordingPeer())
    bucket, groups = bucket_of([{}, {"a": 1}])
    subscriber.pairs["a"] = {group.filter and group.filter.identity: group for group in groups}
    assert len(subscriber) == 2 and subscriber.buckets(["a"]) == [bucket]
