"""Retained events: one of each type, within bounds, and when they are there."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from nexus_tw.bus.bounds import Bounds
from nexus_tw.bus.history import History
from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.bus.retained import BYTES, COST, TYPES, Retained
from nexus_tw.interfaces.plugins import RetainedEvent
from nexus_tw.model import settings
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import EventMetadata, encode_metadata
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import Payload


def event(event_type: str, data: bytes = b"1") -> RetainedEvent:
    return RetainedEvent(event_type, data, b"", None)


def types(retained: Retained, pattern: str = "**") -> list[str]:
    return [each.event_type for each in retained.find(Pattern.parse(pattern))]


def test_the_last_one_of_each_type_is_found_by_type_and_pattern() -> None:
    retained = Retained(Metrics())
    for each in (event("a.b"), event("a.c"), event("b"), event("a.b", b"2")):
        retained.keep(each, "somebody")
    assert retained.find(Pattern.parse("a.b")) == [event("a.b", b"2")]
    assert retained.find(Pattern.parse("c")) == []
    assert types(retained, "a.*") == ["a.c", "a.b"]
    assert types(retained) == ["a.c", "b", "a.b"]


def test_without_room_the_one_with_more_than_its_share_loses_its_oldest() -> None:
    metrics = Metrics()
    retained = Retained(metrics)
    for number in range(TYPES - 10):
        retained.keep(event(f"greedy.{number}"), "greedy")
    for number in range(20):
        retained.keep(event(f"modest.{number}"), "modest")
    assert len(types(retained)) == metrics.retained_events == TYPES
    assert len(types(retained, "modest.*")) == 20
    assert types(retained, "greedy.*")[0] == "greedy.10"
    assert metrics.retained_evicted == 10


def test_bytes_are_bounded_and_counted() -> None:
    metrics = Metrics()
    retained = Retained(metrics)
    for number in range(20):
        retained.keep(event(f"a.{number}", b"x" * (BYTES // 10 - COST)), "somebody")
    assert len(types(retained)) == 10
    assert metrics.retained_bytes == 10 * (BYTES // 10)
    assert metrics.retained_evicted == 10
    retained.keep(event("a.19"), "somebody")
    assert metrics.retained_bytes == 9 * (BYTES // 10) + 1 + COST


@pytest.mark.parametrize("carried", [False, True])
def test_on_the_memory_bus_an_event_without_position_is_retained_when_it_is_delivered(carried: bool) -> None:
    clock = Clock()
    bus = MemoryBus(MemoryBroker(clock, retained=Retained(Metrics())), "one")
    bus.start(_Nobody())
    for value, retain in ((b"1", "somebody"), (b"2", None)):
        metadata = EventMetadata(7, retain=retain)
        if carried:
            bus.carry("a", Payload.of_value(value), metadata, lambda _taken: None)
        else:
            bus.publish("a", value, lambda _taken: None, encode_metadata(metadata))
    assert found(bus) == [], "whoever subscribes now gets it live"
    clock.advance(0)
    (kept,) = found(bus)
    assert (kept.event_type, kept.data) == ("a", b"1")
    bus.available = False
    assert found(bus).code == "bus_unavailable"


@pytest.mark.parametrize("carried", [False, True])
def test_on_the_memory_bus_an_event_with_position_is_retained_as_it_gets_that(carried: bool) -> None:
    metrics = Metrics()
    broker = MemoryBroker(Clock(), History(Bounds(settings.History()), metrics), retained=Retained(metrics))
    bus = MemoryBus(broker, "one")
    bus.start(_Nobody())
    metadata, taken = EventMetadata(7, retain="somebody"), list[Any]()
    if carried:
        bus.carry("a", Payload.of_value(b"1"), metadata, taken.append)
    else:
        bus.publish("a", b"1", taken.append, encode_metadata(metadata))
    assert found(bus) == [RetainedEvent("a", b"1", encode_metadata(metadata), taken[0])]


def test_without_metadata_or_with_what_only_looks_like_it_nothing_is_retained() -> None:
    clock = Clock()
    bus = MemoryBus(MemoryBroker(clock, retained=Retained(Metrics())), "one")
    bus.start(_Nobody())
    for metadata in (b"", b'"retain":', encode_metadata(EventMetadata(1, options={"ppt_scheme": '"retain":"x"'}))):
        bus.publish("a", b"1", lambda _taken: None, metadata)
    clock.advance(0)
    assert found(bus) == []


def found(bus: MemoryBus) -> Any:
    answers: list[list[RetainedEvent] | NexusError] = []
    assert bus.retained is not None
    bus.retained.get(Pattern.parse("**"), answers.append)
    (answer,) = answers
    return answer


class _Nobody:
    """Takes no event."""

    def event(self, *_words: Any) -> None:
        raise AssertionError("nothing was subscribed to")

    def message(self, body: bytes) -> None:
        raise AssertionError

    def lost(self) -> None:
        raise AssertionError

    restored = lost
