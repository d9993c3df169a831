"""Testaments: when they are published, for whom, and how many there may be."""

from __future__ import annotations

import pytest

from nexus_tw.model.settings import Role
from nexus_tw.realm.testaments import MOST_TESTAMENTS, SCOPES
from tests.protocols.wamp.rules.core import Speaker, World
from tests.realm.asking import ask, events, refused
from tests.wamp.peer import EVENT, GOODBYE


@pytest.mark.parametrize("how", ["lost", "goodbye", "killed"])
def test_a_testament_is_published_when_the_session_ends_however_that_is(how: str, world: World) -> None:
    hearer, admin, speaker = world.join(), world.join(), world.join("me")
    hearer.subscribe("com.left")
    ask(speaker, "wamp.session.add_testament", ["com.left", [1], {"k": "v"}])
    ask(speaker, "wamp.session.add_testament", ["com.left", [2]], {"scope": "detached"})
    assert hearer.heard() == []
    if how == "lost":
        speaker.lose()
    elif how == "goodbye":
        speaker.say(GOODBYE, {}, "wamp.close.normal")
    else:
        ask(admin, "wamp.session.kill", [speaker.number])
    detached, destroyed = hearer.heard()
    assert (detached[0], detached[3:], destroyed[3:]) == (EVENT, [{}, [2]], [{}, [1], {"k": "v"}])


def test_arguments_that_are_null_are_none(world: World) -> None:
    hearer, speaker = world.join(), world.join()
    hearer.subscribe("com.left")
    ask(speaker, "wamp.session.add_testament", ["com.left", None, None], {"publish_options": None})
    assert ask(speaker, "wamp.session.count", [None]) == 2
    speaker.lose()
    assert hearer.one()[3:] in ([{}], [{}, []])


def test_testaments_can_be_taken_back(world: World) -> None:
    hearer, speaker = world.join(), world.join()
    hearer.subscribe("com.left")
    ask(speaker, "wamp.session.add_testament", ["com.left"])
    assert ask(speaker, "wamp.session.flush_testaments") == 1
    assert ask(speaker, "wamp.session.flush_testaments", [], {"scope": "destroyed"}) == 0
    speaker.lose()
    assert hearer.heard() == []


def test_detached_testaments_come_first_and_are_flushed_apart_from_those_of_destroyed(world: World) -> None:
    hearer, speaker = world.join(), world.join()
    hearer.subscribe("com.left")

    def leave(who: Speaker) -> None:
        for text, scope in (("a", "destroyed"), ("b", "detached"), ("c", None), ("d", "detached")):
            ask(who, "wamp.session.add_testament", ["com.left", [text]], {} if scope is None else {"scope": scope})

    leave(speaker)
    speaker.lose()
    assert events(hearer) == [["b"], ["d"], ["a"], ["c"]]
    for flushed, left in (("detached", ["a", "c"]), ("destroyed", ["b", "d"]), (None, ["b", "d"])):
        speaker = world.join()
        leave(speaker)
        scope = {} if flushed is None else {"scope": flushed}
        assert ask(speaker, "wamp.session.flush_testaments", [], scope) == 2
        assert ask(speaker, "wamp.session.flush_testaments", [], scope) == 0
        speaker.lose()
        assert events(hearer) == [[text] for text in left]


def test_a_testament_is_for_those_whom_its_options_say_and_tells_who_left_it(world: World) -> None:
    chosen, other, speaker = world.join("chosen"), world.join("other"), world.join("me")
    for hearer in (chosen, other):
        hearer.subscribe("com.left")
    options = {"eligible_authid": ["chosen"], "disclose_me": True}
    ask(speaker, "wamp.session.add_testament", ["com.left", ["bye"], {}], {"publish_options": options})
    speaker.lose()
    assert other.heard() == []
    assert chosen.one()[3] == {"publisher": speaker.number, "publisher_authid": "me", "publisher_authrole": "test"}


def test_a_testament_takes_the_right_to_publish_and_a_name_that_is_nobodys(world: World) -> None:
    speaker = world.join(role=Role(call=("wamp.**",), publish=("com.**",)))
    for topic, uri in [
        ("org.left", "wamp.error.not_authorized"),
        ("nexus.left", "wamp.error.not_authorized"),
        ("wamp.left", "wamp.error.not_authorized"),
        ("a b", "wamp.error.invalid_argument"),
    ]:
        assert refused(speaker, "wamp.session.add_testament", [topic])[0] == uri
    for options in ({"eligible": ["x"]}, {"exclude": 5}, {"exclude_authid": [1]}):
        uri, _ = refused(speaker, "wamp.session.add_testament", ["com.left"], {"publish_options": options})
        assert uri == "wamp.error.invalid_argument"
    assert refused(speaker, "wamp.session.add_testament", ["com.left"], {"scope": "never"})[0] == "wamp.error.invalid_argument"
    assert refused(speaker, "wamp.session.flush_testaments", [], {"scope": 5})[0] == "wamp.error.invalid_argument"


def test_a_session_leaves_only_so_many_testaments(world: World) -> None:
    speaker = world.join()
    for number in range(MOST_TESTAMENTS):
        ask(speaker, "wamp.session.add_testament", ["com.left"], {"scope": SCOPES[number % 2]})
    assert refused(speaker, "wamp.session.add_testament", ["com.left"])[0] == "wamp.error.unavailable"


def test_testaments_of_one_subject_are_bounded_in_bytes_over_all_its_sessions(world: World) -> None:
    kept = world.realms["nexus"]._testaments._kept
    kept.resize(4000)
    speakers = [world.join(), world.join()]
    ask(speakers[0], "wamp.session.add_testament", ["com.a", ["x" * 900]])
    told = refused(speakers[1], "wamp.session.add_testament", ["com.a", ["x" * 900]])[1]
    assert told == "More than 1000 testaments of one subject (limits.share)"
    assert world.metrics.shares_refused == {"testaments": 1}
    ask(world.join("other"), "wamp.session.add_testament", ["com.a", ["x" * 900]])
    ask(speakers[0], "wamp.session.flush_testaments", [])
    ask(speakers[1], "wamp.session.add_testament", ["com.a", ["x" * 900]])
    speakers[1].lose()
    assert kept.of("somebody") == 0 < kept.taken
