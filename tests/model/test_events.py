from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.events import Event, EventMetadata, Publisher, Rule, encode_metadata, new_publication_id, new_session_id
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.protocols.wamp.messages import MAX_ID
from tests.recording import RecordingPeer

TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=10)
IDS = st.integers(1, MAX_ID)
RULES = st.builds(
    Rule,
    exclude=st.frozensets(IDS, max_size=3),
    exclude_authid=st.frozensets(TEXTS, max_size=3),
    exclude_authrole=st.frozensets(TEXTS, max_size=3),
    eligible=st.none() | st.frozensets(IDS, max_size=3),
    eligible_authid=st.none() | st.frozensets(TEXTS, max_size=3),
    eligible_authrole=st.none() | st.frozensets(TEXTS, max_size=3),
)
METADATA = st.builds(
    EventMetadata,
    publication=IDS,
    shape=st.sampled_from(["natural", "value"]),
    publisher=st.none() | st.builds(Publisher, IDS, TEXTS, TEXTS),
    rule=st.none() | RULES,
    options=st.none() | st.dictionaries(TEXTS, TEXTS, max_size=3),
)


def arrived(metadata: bytes, data: bytes = b"{}") -> Event:
    event = Event.arrived("a", data, metadata)
    assert event is not None
    return event


# --- what goes with an event


@given(METADATA)
def test_what_goes_with_an_event_arrives_as_it_was(metadata: EventMetadata) -> None:
    event = arrived(encode_metadata(metadata))
    assert event.metadata == metadata
    assert (event.type, event.payload.shape, event.publication) == ("a", metadata.shape, metadata.publication)


def test_what_is_not_said_takes_no_room() -> None:
    assert json.loads(encode_metadata(EventMetadata(5))) == {"publication": 5}
    assert json.loads(encode_metadata(EventMetadata(5, rule=Rule((1,))))) == {"publication": 5, "rule": {"exclude": [1]}}


def test_an_empty_list_of_those_who_may_is_not_the_same_as_none() -> None:
    rule = arrived(encode_metadata(EventMetadata(1, rule=Rule(eligible=())))).metadata.rule  # type: ignore[union-attr]
    assert rule is not None and rule.eligible == ()


def test_a_pair_arrives_as_a_pair() -> None:
    event = arrived(encode_metadata(EventMetadata(1, "pair")), b'{"args":[1],"kwargs":{"a":2}}')
    assert event.payload.shape == "pair"


def test_an_event_of_somebody_else_is_for_everybody_and_has_one_publication_on_this_node() -> None:
    event = arrived(b"", b'{"args":[1],"kwargs":{}}')
    assert event.metadata is None and event.payload.shape == "natural"
    assert 1 <= event.publication <= MAX_ID
    assert event.publication == event.publication
    assert arrived(b"").publication != event.publication


@pytest.mark.parametrize(
    ("metadata", "data"),
    [
        (b"null", b"1"),
        (b"{", b"1"),
        (b"{}", b"1"),
        (b'{"publication":"1"}', b"1"),
        (b'{"publication":1,"shape":"other"}', b"1"),
        (b'{"publication":1,"publisher":[1,"a"]}', b"1"),
        (b'{"publication":1,"rule":[]}', b"1"),
        (b'{"publication":1,"rule":{"exclude":[null]}}', b"1"),
        (b'{"publication":1,"rule":{"eligible_authid":[1]}}', b"1"),
        (b'{"publication":1,"options":{"a":1}}', b"1"),
        (b'{"publication":1,"options":{"a":"\xff"}}', b"1"),
        (b'{"publication":1} x', b"1"),
        (b'{"publication":1,"newer":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"1"),
        (b'{"publication":1,"shape":"pair"}', b"1"),
        (b'{"publication":1,"shape":"pair"}', b'{"args":1,"kwargs":{}}'),
        (b'{"publication":1,"shape":"pair"}', b'{"args":[]}'),
        (b'{"publication":1,"shape":"pair"}', b'{"args":' + b"[" * 100_000 + b"]" * 100_000 + b',"kwargs":{}}'),
    ],
    ids=lambda value: repr(value[:50]),
)
def test_an_event_of_which_it_cannot_be_read_whom_it_is_for_is_none(metadata: bytes, data: bytes) -> None:
    assert Event.arrived("a", data, metadata) is None


@given(st.binary(min_size=1, max_size=30) | st.lists(IDS | TEXTS).map(lambda value: json.dumps(value).encode()))
def test_whatever_else_it_is_that_goes_with_an_event_it_does_no_harm(metadata: bytes) -> None:
    assert Event.arrived("a", b"1", metadata) is None


def test_what_newer_nodes_say_besides_is_passed_over() -> None:
    assert arrived(b'{"publication":1,"newer":[{}],"rule":{"newer":1,"exclude":[7]}}').metadata == EventMetadata(
        1, rule=Rule((7,))
    )


def test_ids_are_uniform_from_1_to_2_to_the_53rd() -> None:
    ids = [make() for make in (new_session_id, new_publication_id) for _ in range(1000)]
    assert len(set(ids)) == 2000 and min(ids) >= 1 and max(ids) <= 2**53
    assert max(ids) > 2**52, "the upper half is used"


def test_an_event_of_this_nodes_own_has_a_publication_too() -> None:
    event = Event("a", Payload.of_value(b"1"))
    assert event.publication == event.publication != 0


# --- who gets it


def peer(number: int = 1, subject: str = "s", role: str = "r") -> RecordingPeer:
    made = RecordingPeer(who=Principal(subject, role, ADMIN))
    made.number = number
    return made


NONE: frozenset[Any] = frozenset()


@pytest.mark.parametrize(
    ("rule", "admitted"),
    [
        (Rule(), True),
        (Rule(exclude=(1,)), False),
        (Rule(exclude=(2,)), True),
        (Rule(exclude_authid=frozenset({"s"})), False),
        (Rule(exclude_authid=frozenset({"r"})), True),
        (Rule(exclude_authrole=frozenset({"r"})), False),
        (Rule(exclude_authrole=frozenset({"s"})), True),
        (Rule(eligible=()), False),
        (Rule(eligible_authid=NONE), False),
        (Rule(eligible_authrole=NONE), False),
        (Rule(eligible=(1,)), True),
        (Rule(eligible=(2,)), False),
        (Rule(eligible_authid=frozenset({"s"})), True),
        (Rule(eligible_authid=frozenset({"t"})), False),
        (Rule(eligible_authrole=frozenset({"r"})), True),
        (Rule(eligible_authrole=frozenset({"t"})), False),
        (Rule(eligible=(1,), eligible_authid=frozenset({"t"})), False),
        (Rule(eligible=(1,), exclude=(1,)), False),
        (Rule(eligible=(1,), eligible_authid=frozenset({"s"}), eligible_authrole=frozenset({"r"})), True),
    ],
    ids=repr,
)
def test_a_rule_admits_those_who_are_in_no_black_list_and_in_all_white_lists(rule: Rule, admitted: bool) -> None:
    assert rule.admits(peer()) is admitted


@given(RULES)
def test_a_rule_by_session_is_one_that_admits_everybody_but_some_sessions(rule: Rule) -> None:
    others = (rule.exclude_authid, rule.exclude_authrole)
    lists = (rule.eligible, rule.eligible_authid, rule.eligible_authrole)
    assert rule.by_session == (not any(others) and all(each is None for each in lists))
    if rule.by_session:
        assert rule.admits(peer(MAX_ID + 1))
        assert not any(rule.admits(peer(number)) for number in rule.exclude)


def test_sessions_that_a_publisher_lists_are_not_put_into_a_table_of_hashes() -> None:
    """Colliding numbers: kept in order, however they came, and found in it."""
    listed = [number << 40 for number in range(4096, 0, -1)]
    rule = arrived(encode_metadata(EventMetadata(1, rule=Rule(listed, eligible=[5, 3, 5])))).metadata.rule  # type: ignore[union-attr]
    assert rule is not None
    assert (rule.exclude, rule.eligible) == (tuple(reversed(listed)), (3, 5, 5))
    for number, admitted in ((3, True), (5, True), (4, False), (6, False), (2, False)):
        assert rule.admits(peer(number)) is admitted
    assert not Rule(listed).admits(peer(1 << 40))
    assert Rule(listed).admits(peer(1))
