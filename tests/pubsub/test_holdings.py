"""What a peer that subscribes once more is given already."""

from __future__ import annotations

import pytest

from nexus_tw.model.filters import Facts, compile_filter
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Position
from nexus_tw.pubsub.groups import Subscriber
from nexus_tw.pubsub.holdings import REMEMBERED, Holding
from nexus_tw.pubsub.hub import Hub
from tests.recording import RecordingPeer

HOT = {"kind": "hot"}


class Held:
    """A subscriber in a hub."""

    def __init__(self) -> None:
        self.hub = Hub(lambda _act: None, Metrics(), lambda: 1.5)
        self.peer = RecordingPeer()
        self.subscriber = Subscriber(self.peer)

    def subscribe(self, text: str, **filters: str) -> None:
        self.hub.subscribe(self.subscriber, [(Pattern.parse(text), compile_filter(filters or None, 64, 4096))])

    def holding(self, **filters: str) -> Holding:
        return Holding(self.hub, self.subscriber, compile_filter(filters or None, 64, 4096))


@pytest.fixture
def held() -> Held:
    return Held()


def test_a_type_is_followed_by_any_pattern_that_selects_it(held: Held) -> None:
    held.subscribe("task.*")
    holding = held.holding()
    assert holding.follows("task.updated")
    assert not holding.follows("task.updated.twice")
    held.subscribe("**")
    assert holding.follows("task.updated.twice")
    assert not holding.follows("nexus.continuity")


def test_all_of_it_comes_by_no_filter_or_the_same_one(held: Held) -> None:
    held.subscribe("task.*", **HOT)
    assert held.holding(**HOT).has_all("task.updated")
    assert not held.holding(kind="cold").has_all("task.updated")
    assert not held.holding().has_all("task.updated")
    held.subscribe("task.**")
    assert held.holding(kind="cold").has_all("task.updated")


def test_what_was_recovered_from_an_earlier_position_was_had(held: Held) -> None:
    held.holding().remember("task.updated", Position("a.1", 3))
    for holding in (held.holding(), held.holding(**HOT)):
        assert holding.has_had("task.updated", Position("a.1", 3))
        assert holding.has_had("task.updated", Position("a.1", 4))
        assert not holding.has_had("task.updated", Position("a.1", 2))
        assert not holding.has_had("task.updated", Position("b.1", 3))
        assert not holding.has_had("task.created", Position("a.1", 3))


def test_what_was_recovered_by_a_filter_was_had_by_that_filter(held: Held) -> None:
    held.holding(**HOT).remember("task.updated", Position("a.1", 3))
    assert held.holding(**HOT).has_had("task.updated", Position("a.1", 3))
    assert not held.holding(kind="cold").has_had("task.updated", Position("a.1", 3))
    assert not held.holding().has_had("task.updated", Position("a.1", 3))


def test_the_first_recovery_of_a_type_is_the_one_that_is_remembered(held: Held) -> None:
    held.holding().remember("task.updated", Position("a.1", 3))
    held.holding(**HOT).remember("task.updated", Position("a.1", 1))
    assert held.holding().has_had("task.updated", Position("a.1", 3))
    assert not held.holding().has_had("task.updated", Position("a.1", 1))


def test_beyond_the_bound_nothing_more_is_remembered(held: Held) -> None:
    holding = held.holding()
    for number in range(REMEMBERED + 1):
        holding.remember(f"task.n{number}", Position("a.1", 3))
    assert holding.has_had(f"task.n{REMEMBERED - 1}", Position("a.1", 3))
    assert not holding.has_had(f"task.n{REMEMBERED}", Position("a.1", 3))


def test_an_event_is_wanted_by_any_subscription(held: Held) -> None:
    held.subscribe("task.*", **HOT)
    holding = held.holding()
    assert holding.wants("task.updated", Facts({"kind": "hot"}))
    assert not holding.wants("task.updated", Facts({"kind": "cold"}))
    assert not holding.wants("agent.status", Facts({"kind": "hot"}))


def test_a_paused_peer_is_given_what_was_gathered_and_then_nothing(held: Held) -> None:
    held.subscribe("task.*")
    held.hub.tell([Pattern.parse("task.*")], lambda _encoding: b"before")
    assert [pattern.text for pattern in held.holding().pause()] == ["task.*"]
    assert held.peer.delivered == [b"before"]
    held.hub.tell([Pattern.parse("task.*")], lambda _encoding: b"meanwhile")
    held.hub.flush()
    assert held.peer.delivered == [b"before"]
    held.subscribe("agent.*")
    held.hub.tell([Pattern.parse("task.*")], lambda _encoding: b"after")
    held.hub.flush()
    assert held.peer.delivered == [b"before", b"after"]
