"""Authorizers at work: a bound of their own for those that never answer, and testaments that they allow like a PUBLISH."""

from __future__ import annotations

from typing import Any, Final

import pytest
from twisted.internet.defer import Deferred

from nexus_tw.model.settings import Limits, Realm, Role
from tests.protocols.wamp.rules.core import Speaker, World
from tests.wamp.peer import CALL, ERROR, EVENT, INTERRUPT, INVOCATION, PUBLISH, RESULT, SUBSCRIBE, SUBSCRIBED

AUTHORIZE: Final = "com.example.authorize"
NOTHING: Final = Role(realms=("*",), call=("wamp.**",))


@pytest.mark.parametrize("limit", [0, 1, 30])
def test_an_authorizer_that_never_answers_leaves_no_open_invocations_whatever_the_limit_of_calls(limit: float) -> None:
    world = World({"guarded": Realm(authorizer=f"procedure:{AUTHORIZE}")}, limits=Limits(call=limit, authorizer=2))
    authorizer = world.join(realm="guarded")
    authorizer.register(AUTHORIZE)
    asking = [world.join(f"subject {number}", NOTHING, "guarded") for number in range(3)]
    for speaker in asking:
        speaker.say(SUBSCRIBE, 1, {}, "com.topic")
    asked = [message[1] for message in authorizer.heard()]
    realm: Any = world.realms["guarded"]
    assert len(asked) == sum(len(hand.open) for hand in realm._invocations._hands.values()) == 3
    world.clock.advance(1.9)
    assert [speaker.heard() for speaker in asking] == [[]] * 3
    world.clock.advance(0.1)
    for speaker in asking:
        error = speaker.one()
        assert error[:3] == [ERROR, SUBSCRIBE, 1]
        assert "no answer within 2 s" in error[5][0]
    assert [message[:2] for message in authorizer.heard()] == [[INTERRUPT, number] for number in asked]
    assert not any(hand.open for hand in realm._invocations._hands.values())
    assert world.metrics.authorizer_failures == {"timeout": 3}
    authorizer.give(asked[0], [True])
    asking[0].say(SUBSCRIBE, 2, {}, "com.topic")
    (invocation,) = authorizer.heard()
    assert invocation[0] == INVOCATION
    authorizer.give(invocation[1], [True])
    assert asking[0].one()[:2] == [SUBSCRIBED, 2]


class Authorizer:
    """Answers when the test says so; imported by its name, as one of a user's own."""

    waiting: Final[list[tuple[Any, Deferred[bool]]]] = []

    def __call__(self, question: Any) -> Deferred[bool]:
        answer: Deferred[bool] = Deferred()
        self.waiting.append((question, answer))
        return answer

    def answer(self, yes: bool) -> Any:
        question, answer = self.waiting.pop(0)
        answer.callback(yes)
        return question


authorizer = Authorizer()


@pytest.fixture
def world() -> World:
    authorizer.waiting.clear()
    return World({"guarded": Realm(authorizer="tests.auth.test_asking:authorizer")})


def leave(speaker: Speaker, topic: str, *args: Any) -> int:
    request = speaker.next()
    speaker.say(CALL, request, {}, "wamp.session.add_testament", [topic, list(args), {}])
    return request


def test_a_testament_is_allowed_by_the_authorizer_that_allows_the_same_publish_when_left_and_when_published(
    world: World,
) -> None:
    subscriber, speaker = world.join(realm="guarded"), world.join("leaver", NOTHING, "guarded")
    subscriber.subscribe("com.left")
    request = leave(speaker, "com.left", "bye")
    assert speaker.heard() == []
    asked = authorizer.answer(True)
    assert (asked.subject, asked.action, asked.uri, asked.match) == ("leaver", "publish", "com.left", "exact")
    assert speaker.one()[:2] == [RESULT, request]
    world.clock.advance(11)  # the answer holds no longer
    speaker.lose()
    assert subscriber.heard() == []
    assert authorizer.answer(True) == asked
    assert [message[4] for message in subscriber.heard() if message[0] == EVENT] == [["bye"]]


def test_a_testament_that_the_authorizer_denies_is_refused(world: World) -> None:
    speaker = world.join("leaver", NOTHING, "guarded")
    request = leave(speaker, "com.left")
    authorizer.answer(False)
    assert speaker.one()[:5] == [ERROR, CALL, request, {}, "wamp.error.not_authorized"]
    request = leave(speaker, "wamp.session.on_join")
    assert speaker.one()[:3] == [ERROR, CALL, request]
    assert authorizer.waiting == [], "nobody is asked about what nobody may publish"
    speaker.lose()
    assert world.metrics.events_dropped["testament"] == 0


def test_a_testament_whose_right_was_lost_meanwhile_is_not_published(world: World) -> None:
    subscriber, speaker = world.join(realm="guarded"), world.join("leaver", NOTHING, "guarded")
    subscriber.subscribe("com.left")
    leave(speaker, "com.left", "bye")
    authorizer.answer(True)
    world.clock.advance(11)
    speaker.lose()
    authorizer.answer(False)
    assert subscriber.heard() == []
    assert world.metrics.events_dropped["testament"] == 1


def test_a_testament_that_is_allowed_when_its_session_has_left_leaves_nothing_behind(world: World) -> None:
    speaker = world.join("leaver", NOTHING, "guarded")
    leave(speaker, "com.left", "bye")
    speaker.lose()
    authorizer.answer(True)
    realm: Any = world.realms["guarded"]
    assert not realm._testaments._testaments and not realm._subscriptions.lines._lines


def test_a_testament_comes_behind_what_its_session_published(world: World) -> None:
    subscriber, speaker = world.join(realm="guarded"), world.join("leaver", NOTHING, "guarded")
    subscriber.subscribe("com.", match="prefix")
    leave(speaker, "com.left", "last")
    authorizer.answer(True)
    speaker.say(PUBLISH, 9, {}, "com.said", ["first"])
    speaker.lose()
    assert subscriber.heard() == []
    authorizer.answer(True)
    assert [message[4] for message in subscriber.heard()] == [["first"], ["last"]]
