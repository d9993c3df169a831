"""WAMP's event retention: who gets which retained event, and when."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_tw.bus import open_bus
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import History
from tests.protocols.wamp.rules.core import Speaker, World
from tests.wamp.peer import EVENT, SUBSCRIBE, SUBSCRIBED, UNSUBSCRIBE


@pytest.fixture
def world() -> World:
    return World(bus=lambda clock: open_bus("memory:", clock, Metrics(), "node-1", history=History()))


def subscribe(speaker: Speaker, topic: str, **options: Any) -> list[list[Any]]:
    """What comes after SUBSCRIBED, with that."""
    request = speaker.next()
    speaker.say(SUBSCRIBE, request, options, topic)
    subscribed, *events = speaker.heard()
    assert subscribed[:2] == [SUBSCRIBED, request]
    assert all(message[:2] == [EVENT, subscribed[2]] for message in events)
    return events


def test_it_is_announced_where_the_bus_can(world: World) -> None:
    assert world.join().welcome["roles"]["broker"]["features"]["event_retention"] is True
    assert "event_retention" not in World().join().welcome["roles"]["broker"]["features"]


def test_the_last_retained_event_comes_first_with_its_publication_id(world: World) -> None:
    publisher, live = world.join("pub"), world.join("live")
    subscribe(live, "a.b")
    publisher.publish("a.b", [1], retain=True)
    publisher.publish("a.b", [2], {"k": 3}, retain=True, disclose_me=True)
    publisher.publish("a.b", [4])
    ids = [message[2] for message in live.heard()]
    late = world.join("late", codec="msgpack")
    ((_, _, publication, details, args, kwargs),) = subscribe(late, "a.b", get_retained=True)
    assert (publication, args, kwargs) == (ids[1], [2], {"k": 3})
    assert details["retained"] is True and details["publisher_authid"] == "pub"
    publisher.publish("a.b", [5])
    (event,) = late.heard()
    assert event[4] == [5] and "retained" not in event[3]
    assert subscribe(world.join(), "a.b") == [], "only those who ask"


@pytest.mark.parametrize("history", [History(), History(count=0)])
@pytest.mark.parametrize("watched", [False, True])
def test_an_event_under_way_comes_once(history: History, watched: bool) -> None:
    world = World(bus=lambda clock: open_bus("memory:", clock, Metrics(), "node-1", history=history))
    publisher, other = world.join("pub"), world.join("other")
    if watched:
        subscribe(world.join("watcher"), "a.b")
    publisher.publish("a.b", [1], retain=True)
    (event,) = subscribe(other, "a.b", get_retained=True)
    assert event[4] == [1]
    publisher.publish("a.b", [2], retain=True)
    events = subscribe(world.join("third"), "a.", match="prefix", get_retained=True)
    # Without positions it comes live, behind the one that it replaces.
    assert [event[4] for event in events] == ([[2]] if history.count else [[1], [2]])


def test_a_pattern_brings_one_of_each_topic(world: World) -> None:
    publisher = world.join("pub")
    for topic in ("a.x", "a.y", "b"):
        publisher.publish(topic, [topic], retain=True)
    world.run()
    events = subscribe(world.join(), "a.", match="prefix", get_retained=True)
    assert [(message[3]["topic"], message[4]) for message in events] == [("a.x", ["a.x"]), ("a.y", ["a.y"])]


def test_only_recipients_of_the_publication_get_it_retained(world: World) -> None:
    publisher = world.join("pub")
    publisher.publish("for.one", [1], retain=True, eligible_authid=["one"])
    publisher.publish("own", [1], retain=True)
    publisher.publish("secret", [1], retain=True, ppt_scheme="x_mine")
    world.run()
    assert len(subscribe(world.join("one"), "for.one", get_retained=True)) == 1
    assert subscribe(world.join("other"), "for.one", get_retained=True) == []
    assert subscribe(publisher, "own", get_retained=True) == [], "it excluded itself"
    assert len(subscribe(world.join("other"), "secret", get_retained=True)) == 1, "it announced the mode"


class Late:
    """Retained events that are answered when the test says so."""

    def __init__(self, retained: Any) -> None:
        self._retained = retained
        self._waiting: list[tuple[list[Any], Any]] = []

    def get(self, pattern: Any, done: Any) -> None:
        found: list[Any] = []
        self._retained.get(pattern, found.extend)
        self._waiting.append((found, done))

    def answer(self) -> int:
        """Answer as things were when it was asked. Return the number of answers."""
        waiting, self._waiting = self._waiting, []
        for found, done in waiting:
            done(found)
        return len(waiting)


@pytest.fixture
def late(world: World) -> Late:
    bus: Any = world.realms["nexus"].bus
    bus.retained = late = Late(bus.retained)
    return late


def asking(speaker: Speaker, topic: str, **options: Any) -> int:
    """Subscribe, with the answer about retained events outstanding. Return the subscription."""
    speaker.say(SUBSCRIBE, speaker.next(), {"get_retained": True, **options}, topic)
    ((code, _, subscription),) = speaker.heard()
    assert code == SUBSCRIBED
    return int(subscription)


def test_a_late_answer_comes_unless_a_newer_event_replaced_it(world: World, late: Late) -> None:
    publisher, one, other = world.join("pub"), world.join("one"), world.join("other")
    for topic in ("a.x", "a.y"):
        publisher.publish(topic, [1], retain=True)
    world.run()
    asking(one, "a.x")
    asking(other, "a.", match="prefix")
    publisher.publish("a.x", [2], retain=True)
    publisher.publish("a.y", [2])
    world.run()
    assert [event[4] for event in one.heard()] == [[2]]
    assert [event[4] for event in other.heard()] == [[2], [2]]
    assert late.answer() == 2
    assert one.heard() == other.heard() == [], "asked again"
    assert late.answer() == 3
    assert one.heard() == []
    ((*_, details, args),) = other.heard()
    assert (details["topic"], details["retained"], args) == ("a.y", True, [1])
    assert late.answer() == 0


def test_a_type_that_never_rests_is_asked_for_three_times(world: World, late: Late) -> None:
    publisher, one = world.join("pub"), world.join("one")
    publisher.publish("a", [0], retain=True)
    world.run()
    asking(one, "a")
    for number in (1, 2, 3):
        publisher.publish("a", [number])
        world.run()
        assert late.answer() == 1
    assert [event[4] for event in one.heard()] == [[1], [2], [3], [0]]
    assert late.answer() == 0


@pytest.mark.parametrize("way", ["unsubscribed", "gone"])
def test_a_late_answer_for_nobody_is_dropped(world: World, late: Late, way: str) -> None:
    publisher, one = world.join("pub"), world.join("one")
    publisher.publish("a", [0], retain=True)
    world.run()
    subscription = asking(one, "a")
    if way == "gone":
        one.line.lose()
    else:
        one.say(UNSUBSCRIBE, one.next(), subscription)
        one.heard()
    assert late.answer() == 1
    assert one.heard() == []
