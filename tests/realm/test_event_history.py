"""WAMP's event history: which past events a session gets, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_tw.bus import open_bus
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import History, Role
from nexus_tw.pubsub.pages import BYTES
from nexus_tw.realm.event_history import GET_EVENTS, MAX_LIMIT, TOPICS
from tests.protocols.wamp.rules.core import Speaker, World
from tests.realm.asking import EVERYTHING, INSTANT
from tests.wamp.peer import CALL, ERROR, EVENT, RESULT, SUBSCRIBE, SUBSCRIBED


@pytest.fixture
def world() -> World:
    return remembering()


def remembering(history: History | None = None) -> World:
    return World(bus=lambda clock: open_bus("memory:", clock, Metrics(), "node-1", history=history or History()))


def subscribed(speaker: Speaker, topic: str, **options: Any) -> int:
    request = speaker.next()
    speaker.say(SUBSCRIBE, request, options, topic)
    message = speaker.heard()[-1]
    assert message[:2] == [SUBSCRIBED, request], message
    return int(message[2])


def get(speaker: Speaker, subscription: int, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
    request = speaker.call(GET_EVENTS, [subscription, *args], kwargs)
    message = speaker.heard()[-1]
    assert message[:2] == [RESULT, request], message
    ((found,),) = message[3:]
    return list(found)


def firsts(events: list[dict[str, Any]]) -> list[Any]:
    return [event["args"][0] for event in events]


def refused(speaker: Speaker, *args: Any, **kwargs: Any) -> tuple[str, str]:
    request = speaker.call(GET_EVENTS, list(args), kwargs)
    message = speaker.heard()[-1]
    assert message[:3] == [ERROR, CALL, request], message
    return message[4], message[5][0]


def published(world: World, speaker: Speaker, *values: Any, topic: str = "a.b", **options: Any) -> None:
    """Publish these, a second apart, for the publisher too."""
    for value in values:
        speaker.publish(topic, [value], **{"exclude_me": False, **options})
        world.run()
        world.clock.advance(1)


def test_it_is_announced_where_the_past_is_kept() -> None:
    assert remembering().join().welcome["roles"]["broker"]["features"]["event_history"] is True
    assert "event_history" not in remembering(History(count=0)).join().welcome["roles"]["broker"]["features"]


def test_past_events_are_told_as_they_were_delivered(world: World) -> None:
    publisher, subscriber = world.join("pub"), world.join("sub", codec="msgpack")
    number = subscribed(subscriber, "a.b")
    publisher.publish("a.b", [1, b"\0\1"], {"x": 2}, disclose_me=True)
    world.agent().say(type="publish", eventType="a.b", data={"y": 3})
    live = [message for message in subscriber.heard() if message[0] == EVENT]
    told = get(subscriber, number)
    assert [event["publication"] for event in told] == [message[2] for message in live]
    assert [event["args"] for event in told] == [message[4] for message in live] == [[1, b"\0\1"], []]
    assert [event["kwargs"] for event in told] == [message[5] for message in live] == [{"x": 2}, {"y": 3}]
    assert told[0]["details"] == live[0][3] and told[0]["details"]["publisher_authid"] == "pub"
    for event in told:
        assert INSTANT.match(event["timestamp"])
        assert (event["subscription"], event["topic"]) == (number, "a.b")


def test_limit_and_reverse(world: World) -> None:
    one = world.join()
    number = subscribed(one, "a.b")
    published(world, one, *range(5))
    assert firsts(get(one, number)) == [0, 1, 2, 3, 4]
    assert firsts(get(one, number, 2)) == [0, 1]
    assert firsts(get(one, number, limit=2, reverse=True)) == [4, 3]


def test_the_history_may_be_longer_than_what_is_read_in_a_turn(world: World) -> None:
    one = world.join()
    number = subscribed(one, "a.b")
    for value in range(900):
        one.publish("a.b", [value], exclude_me=False)
    world.run()
    assert firsts(get(one, number, 3, reverse=True)) == [899, 898, 897]
    assert len(get(one, number, MAX_LIMIT)) == 900


def test_times_bound_what_is_told(world: World) -> None:
    one = world.join()
    number = subscribed(one, "a.b")
    published(world, one, *range(5))
    times = [event["timestamp"] for event in get(one, number)]
    assert firsts(get(one, number, from_time=times[3])) == [3, 4]
    assert firsts(get(one, number, after_time=times[3])) == [4]
    assert firsts(get(one, number, before_time=times[1])) == [0]
    assert firsts(get(one, number, until_time=times[1])) == [0, 1]
    assert firsts(get(one, number, from_time=times[1], before_time=times[4], reverse=True, limit=2)) == [3, 2]


def test_publications_bound_what_is_told(world: World) -> None:
    one = world.join()
    number = subscribed(one, "a.b")
    published(world, one, *range(5))
    ids = [event["publication"] for event in get(one, number)]
    assert firsts(get(one, number, from_publication=ids[3])) == [3, 4]
    assert firsts(get(one, number, after_publication=ids[3])) == [4]
    assert firsts(get(one, number, before_publication=ids[1])) == [0]
    assert firsts(get(one, number, until_publication=ids[1])) == [0, 1]
    assert firsts(get(one, number, after_publication=ids[0], until_publication=ids[3], reverse=True)) == [3, 2, 1]
    assert firsts(get(one, number, from_publication=ids[2], until_publication=ids[2])) == [2]
    assert firsts(get(one, number, after_publication=ids[2], until_publication=ids[2])) == []
    for name in ("from", "after", "before", "until"):
        uri, text = refused(one, number, **{f"{name}_publication": 1})
        assert (uri, text) == (
            "wamp.error.invalid_argument",
            f"Invalid message format: {name}_publication: is not in the history",
        )


def test_a_pattern_has_the_events_of_all_its_topics_by_time(world: World) -> None:
    one = world.join()
    number = subscribed(one, "a.", match="prefix")
    for value in range(4):
        published(world, one, value, topic=f"a.{'xy'[value % 2]}")
    told = get(one, number)
    assert firsts(told) == [0, 1, 2, 3]
    assert [event["details"]["topic"] for event in told] == ["a.x", "a.y"] * 2
    assert firsts(get(one, number, 3, reverse=True)) == [3, 2, 1]
    assert firsts(get(one, number, topic="a.y")) == [1, 3]
    assert firsts(get(one, number, topic="a.y", after_publication=told[1]["publication"])) == [3]
    assert refused(one, number, topic="b.y")[1].endswith("topic: is not a topic of this subscription")
    assert "topic: is needed" in refused(one, number, from_publication=5)[1]


def test_a_pattern_with_too_many_topics_needs_one(world: World) -> None:
    one = world.join()
    number = subscribed(one, "a.", match="prefix")
    for value in range(TOPICS + 1):
        one.publish(f"a.{value}", [value], exclude_me=False)
    world.run()
    uri, text = refused(one, number)
    assert (uri, text) == ("wamp.error.unavailable", f"topic: is needed, since more than {TOPICS} topics have a history")
    assert firsts(get(one, number, topic="a.7")) == [7]


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": MAX_LIMIT + 1}, "limit"),
        ({"limit": "5"}, "limit"),
        ({"reverse": 1}, "reverse"),
        ({"from_time": "yesterday"}, "from_time"),
        ({"until_time": 5}, "until_time"),
        ({"after_publication": "x"}, "after_publication"),
        ({"topic": 5}, "topic"),
    ],
)
def test_arguments_are_strict_and_their_errors_name_them(world: World, kwargs: dict[str, Any], name: str) -> None:
    one = world.join()
    uri, text = refused(one, subscribed(one, "a.b"), **kwargs)
    assert uri == "wamp.error.invalid_argument" and f": {name}: " in text


def test_events_for_others_and_encrypted_ones_are_left_out(world: World) -> None:
    publisher, one = world.join("pub"), world.join("one")
    number = subscribed(one, "a.b")
    published(world, publisher, 1, eligible_authid=["other"])
    published(world, publisher, 2, exclude=[one.number])
    published(world, publisher, 3, ppt_scheme="x_own")
    published(world, publisher, 4, eligible_authid=["one"])
    assert firsts(get(one, number)) == [4]
    assert firsts(get(publisher, number)) == [2], "whoever may subscribe may ask"


def test_one_who_neither_subscribes_nor_may_is_refused(world: World) -> None:
    number = subscribed(world.join("one"), "a.b")
    other = world.join("other", Role(call=("wamp.**",), subscribe=("a.c",), realms=("*",)))
    assert refused(other, number)[0] == "wamp.error.not_authorized"
    allowed = world.join("allowed", Role(call=("wamp.**",), subscribe=("a.*",), realms=("*",)))
    assert get(allowed, number) == []
    assert refused(world.join("no calls", EVERYTHING), number)[0] == "wamp.error.not_authorized"
    assert refused(allowed, 12345)[0] == "wamp.error.no_such_subscription"


def test_where_no_history_is_kept_that_is_said() -> None:
    world = remembering(History(count=0))
    one = world.join()
    assert refused(one, subscribed(one, "a.b"))[0] == "wamp.error.history_unavailable"
    assert refused(one, subscribed(one, "a.", match="prefix"))[0] == "wamp.error.history_unavailable"


@pytest.mark.parametrize("match", ["exact", "prefix"])
def test_while_the_bus_is_away_nobody_can_tell(world: World, match: str) -> None:
    one = world.join()
    number = subscribed(one, "a.b", match=match)
    bus: Any = world.realms["nexus"].bus
    bus.available = False
    assert refused(one, number)[0] == "wamp.error.unavailable"


def test_an_answer_is_bounded_in_bytes(world: World) -> None:
    world = remembering(History(bytes=4 * BYTES))
    one = world.join()
    number = subscribed(one, "a.b")
    for _ in range(3):
        one.publish("a.b", ["x" * (BYTES // 2)], exclude_me=False)
        world.run()
    for more in ({}, {"reverse": True}):
        uri, text = refused(one, number, **more)
        assert uri == "wamp.error.unavailable" and text.startswith("limit: ")
        assert len(get(one, number, limit=1, **more)) == 1
