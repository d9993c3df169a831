"""The WAMP dialect, message by message: who may say what when, and what is told to who says something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.errors import (
    DISCONNECTED,
    HEARTBEAT_TIMEOUT,
    RATE_LIMITED,
    REPLACED,
    REVOKED,
    SHUTTING_DOWN,
    SLOW_CONSUMER,
    TOKEN_EXPIRED,
    TOO_MANY_ERRORS,
    UNAUTHORIZED,
    Close,
    NexusError,
)
from nexus_tw.model.serializers import CODECS
from nexus_tw.model.settings import Limits, Realm, Role
from nexus_tw.protocols.wamp.features import ROLES
from tests.fakes import HandBus
from tests.protocols.wamp.rules.core import Speaker, World
from tests.recording import principal
from tests.wamp.peer import (
    ABORT,
    AUTHENTICATE,
    CALL,
    CANCEL,
    CHALLENGE,
    ERROR,
    EVENT,
    GOODBYE,
    HELLO,
    INTERRUPT,
    INVOCATION,
    PUBLISH,
    PUBLISHED,
    REGISTER,
    REGISTERED,
    RESULT,
    SUBSCRIBE,
    SUBSCRIBED,
    UNREGISTER,
    UNREGISTERED,
    UNSUBSCRIBE,
    UNSUBSCRIBED,
    WELCOME,
    YIELD,
)

VIOLATION: Final = "wamp.error.protocol_violation"
EVENT_RECEIVED: Final = 337
GUESTS: Final = {"guests": Realm(anonymous="admin")}

# Of each kind of member, everything that is not of that kind.
ANY: Final[dict[str, list[Any]]] = {
    "id": [None, True, False, 0, -1, 2**53 + 1, 1.0, 1.5, "1", "", [], [1], {}, {"1": 1}],
    "count": [None, True, -1, 1.5, "1", [], {}],
    "code": [None, True, 1.5, "68", [], {}],
    "text": [None, True, 0, 1, 1.5, [], ["x"], {}, {"x": 1}],
    "map": [None, True, 0, 1.5, "", "{}", [], [[]]],
    "list": [None, True, 0, 1.5, "", "[]", {}],
    "flag": [None, 0, 1, 1.5, "true", "", [], {}],
    "texts": [True, 0, 1.5, "x", {}, [1], ["x", None], [[]]],
    "ids": [True, 0, 1.5, "1", {}, ["1"], [0], [True], [1.5], [None]],
    "text or none": [True, 0, 1.5, [], {}],
    "map or none": [True, 1, "x", ["x"]],
    "texts or none": [True, 1, "ticket", {"a": 1}, [1]],
    "match": [None, True, 0, "", "Exact", "regex", [], {}],
    "invoke": [None, True, 0, "", "all", [], {}],
    "mode": [None, True, 0, "stop", [], {}],
}
PASSTHRU: Final = dict.fromkeys(("ppt_scheme", "ppt_serializer", "ppt_cipher", "ppt_keyid"), "text or none")
OPTIONS: Final[dict[int, dict[str, str]]] = {
    PUBLISH: {
        **dict.fromkeys(("acknowledge", "exclude_me", "disclose_me", "retain"), "flag"),
        **dict.fromkeys(("exclude", "eligible"), "ids"),
        **dict.fromkeys(("exclude_authid", "exclude_authrole", "eligible_authid", "eligible_authrole"), "texts"),
        **PASSTHRU,
    },
    SUBSCRIBE: {"match": "match", "get_retained": "flag"},
    CALL: {"timeout": "count", "receive_progress": "flag", "progress": "flag", "disclose_me": "flag", **PASSTHRU},
    CANCEL: {"mode": "mode"},
    REGISTER: {"match": "match", "invoke": "invoke", "disclose_caller": "flag", "_agent": "text or none"},
    YIELD: {"progress": "flag", **PASSTHRU},
}
# A message that is good, and the kinds of its members.
JOINED: Final[list[tuple[list[Any], list[str]]]] = [
    ([GOODBYE, {}, "wamp.close.normal"], ["map", "text"]),
    ([ABORT, {}, "wamp.close.normal", [], {}], ["map", "text", "list", "map"]),
    ([ERROR, 68, 1, {}, "com.error", [], {}], ["code", "id", "map", "text", "list", "map"]),
    ([PUBLISH, 1, {}, "com.topic", [], {}], ["id", "map", "text", "list", "map"]),
    ([SUBSCRIBE, 1, {}, "com.topic"], ["id", "map", "text"]),
    ([UNSUBSCRIBE, 1, 1], ["id", "id"]),
    ([CALL, 1, {}, "com.procedure", [], {}], ["id", "map", "text", "list", "map"]),
    ([CANCEL, 1, {}], ["id", "map"]),
    ([REGISTER, 1, {}, "com.procedure"], ["id", "map", "text"]),
    ([UNREGISTER, 1, 1], ["id", "id"]),
    ([YIELD, 1, {}, [], {}], ["id", "map", "list", "map"]),
    ([EVENT_RECEIVED, 1], ["id"]),
]
HELLOS: Final[list[dict[str, Any]]] = [
    {},
    {"roles": None},
    {"roles": []},
    {"roles": {}},
    {"roles": "caller"},
    {"roles": {"router": {}}},
    {"roles": {"broker": {}, "dealer": {}}},
    *({"roles": {"caller": wrong}} for wrong in ANY["map"]),
    *({"roles": {"callee": {"features": wrong}}} for wrong in ANY["map"] if wrong is not None),
    *(
        {"roles": {"caller": {}}, member: wrong}
        for member, kind in {"authid": "text or none", "authrole": "text or none", "authextra": "map or none"}.items()
        for wrong in ANY[kind]
    ),
    *({"roles": {"caller": {}}, "authmethods": wrong} for wrong in ANY["texts or none"]),
]

each_codec = pytest.mark.parametrize("codec", CODECS)


def violated(speaker: Speaker) -> str:
    """Check that the client's last message reports a protocol violation. Return the reason."""
    code, details, uri = speaker.now()[-1]
    assert (code, uri) == (ABORT, VIOLATION)
    assert speaker.line.closed == (1002, "Protocol violation", False, 0, "wamp.close.normal", "")
    return str(details["message"])


@pytest.fixture
def world() -> World:
    return World(GUESTS)


# --- what is no message, and what may not come


@each_codec
@pytest.mark.parametrize(("message", "kinds"), JOINED, ids=lambda value: str(value[0]))
def test_a_member_of_the_wrong_type_is_a_violation_that_concerns_nobody_else(
    message: list[Any], kinds: list[str], codec: str, world: World
) -> None:
    other = world.join("other")
    subscription = other.subscribe("com.other")
    wrong: list[list[Any]] = [
        [*message[:place], value, *message[place + 1 :]]
        for place, kind in enumerate(kinds, 1)
        for value in ANY[kind]
        if not (codec != "json" and kind == "id" and isinstance(value, float) and value.is_integer())
    ]
    wrong += [
        [value if item == {} else item for item in message[:3]] + message[3:]
        for name, kind in OPTIONS.get(message[0], {}).items()
        for value in ({name: bad} for bad in ANY[kind] if bad is not None)
    ]
    wrong += [message[:-1] if message[0] not in (ABORT, ERROR, PUBLISH, CALL, YIELD) else message[:2], [*message, []]]
    for each in wrong:
        speaker = world.join(codec=codec)
        speaker.say(*each)
        assert violated(speaker), each
    publisher = world.join()
    publisher.publish("com.other", [1])
    assert [event[:2] for event in other.heard()] == [[EVENT, subscription]]


@each_codec
@pytest.mark.parametrize(("code", "message"), [(message[0], message) for message, _ in JOINED if message[0] in OPTIONS])
def test_an_option_that_is_null_is_one_that_is_not_there(code: int, message: list[Any], codec: str, world: World) -> None:
    for name in OPTIONS[code]:
        speaker = world.join(codec=codec)
        speaker.say(*[{name: None} if item == {} else item for item in message[:3]], *message[3:])
        assert not any(heard[0] == ABORT for heard in speaker.now()), name
        assert speaker.line.closed is None


@each_codec
def test_a_type_code_that_no_client_sends_is_a_violation(codec: str, world: World) -> None:
    known = {code for (code, *_), _ in JOINED} | {HELLO, AUTHENTICATE}
    others = [code for code in (*range(-1, 72), 255, 256, 337, 338, 1023, 2**31, 2**63 - 1) if code not in (*known, 337)]
    for code in others:
        speaker = world.join(codec=codec)
        speaker.say(code, 1, {}, "com.a")
        assert "type code" in violated(speaker), code


@pytest.mark.parametrize("value", [None, True, 16, 1.5, "publish", {}, {"0": 16}, [], [[16]], ["16", 1], [None], [True], [1.5]])
@each_codec
def test_what_is_no_list_that_begins_with_a_type_code_is_a_violation(value: Any, codec: str, world: World) -> None:
    speaker = world.join(codec=codec)
    speaker.say_bytes(CODECS[codec].encode(value))
    violated(speaker)


@given(codec=st.sampled_from(list(CODECS)), data=st.binary(max_size=64))
def test_garbage_is_answered_by_abort_and_touches_nobody_else(codec: str, data: bytes) -> None:
    world = World()
    other = world.join("other")
    subscription = other.subscribe("com.other")
    speaker = world.join(codec=codec)
    speaker.say_bytes(data)  # what raises here would be a traceback in the log
    if speaker.over:
        violated(speaker)
    world.join().publish("com.other", [1])
    assert [event[:2] for event in other.heard()] == [[EVENT, subscription]]


VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.floats() | st.sampled_from(["", "com.a", "com.b", "wamp.session.kill"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["progress", "match", "x"]), inner, max_size=2),
    max_leaves=4,
)
HALF_GOOD: Final = st.sampled_from([message for message, _ in JOINED if message[0] not in (GOODBYE, ABORT)]).flatmap(
    lambda message: st.tuples(*(st.just(member) | VALUES for member in message)) | st.just(tuple(message))
)


@given(st.lists(st.tuples(st.integers(0, 1), HALF_GOOD), max_size=12))
def test_whatever_two_sessions_say_a_third_is_served(said: list[tuple[int, tuple[Any, ...]]]) -> None:
    world = World()
    other = world.join("other")
    subscription = other.subscribe("com.other")
    speakers = [world.join(), world.join(codec="cbor")]
    for place, message in said:
        speakers[place].say(*message)  # what raises here would be a traceback in the log
        world.run()
    for speaker in speakers:
        if speaker.over:
            violated(speaker)
        speaker.lose()
    world.join().publish("com.other", [1])
    assert [event[:2] for event in other.heard()] == [[EVENT, subscription]]
    realm: Any = world.realms["nexus"]
    assert len(realm._roster) == 2
    assert not realm._registry._peers


@each_codec
def test_text_for_a_binary_serializer_is_a_violation_and_the_other_way_round(codec: str, world: World) -> None:
    speaker = world.join(codec=codec)
    speaker.say_bytes(CODECS[codec].encode([GOODBYE, {}, "wamp.close.normal"]), not CODECS[codec].binary)
    assert violated(speaker).startswith(f"{codec} travels in ")


@pytest.mark.parametrize("message", [message for message, _ in JOINED if message[0] != ABORT], ids=lambda value: str(value[0]))
def test_before_hello_nothing_may_come_but_abort(message: list[Any], world: World) -> None:
    speaker = world.speaker()
    speaker.say(*message)
    assert violated(speaker).endswith("may not come now")


def test_hello_comes_once(world: World) -> None:
    speaker = world.join()
    speaker.hello()
    violated(speaker)


def test_authenticate_is_for_who_was_challenged(world: World) -> None:
    for speaker in (world.speaker(), world.join()):
        speaker.say(AUTHENTICATE, "", {})
        violated(speaker)


def test_while_a_challenge_waits_for_its_answer_nothing_else_may_come(world: World) -> None:
    for message in ([HELLO, "guests", {"roles": {"caller": {}}}], *(message for message, _ in JOINED if message[0] != ABORT)):
        speaker = world.speaker()
        speaker.hello("guests", authmethods=["ticket"], authid="x")
        assert speaker.one()[:2] == [CHALLENGE, "ticket"]
        speaker.say(*message)
        violated(speaker)


@pytest.mark.parametrize("details", HELLOS, ids=str)
def test_a_hello_that_says_something_wrong_of_the_client_is_a_violation(details: dict[str, Any], world: World) -> None:
    speaker = world.speaker()
    speaker.say(HELLO, "guests", details)
    violated(speaker)


# --- joining and leaving


def test_welcome_says_who_the_client_is_and_what_the_router_can_do(world: World) -> None:
    speaker = world.speaker("json", principal("me"))
    speaker.hello("nexus")
    code, number, details = speaker.one()
    assert (code, details["realm"], details["authid"], details["authrole"]) == (WELCOME, "nexus", "me", "test")
    assert details["roles"] == ROLES
    assert (details["authmethod"], details["authprovider"], details["agent"]) == ("transport", "transport", "Nexus")
    assert 1 <= number <= 2**53


def test_sessions_have_ids_of_their_own(world: World) -> None:
    assert len({world.join().number for _ in range(50)}) == 50


def test_who_needs_no_credentials_joins_without(world: World) -> None:
    speaker = world.speaker()
    speaker.hello("guests")
    assert speaker.one()[2]["authmethod"] == "anonymous"


@pytest.mark.parametrize(
    ("realm", "uri"), [("nowhere", "wamp.error.no_such_realm"), ("nexus", "wamp.error.no_matching_auth_method")]
)
def test_who_may_not_join_is_told_by_abort_and_closed(realm: str, uri: str, world: World) -> None:
    speaker = world.speaker()
    speaker.hello(realm)
    code, details, told = speaker.one()
    assert (code, told) == (ABORT, uri)
    assert details["message"]
    assert speaker.line.closed is not None
    assert speaker.line.closed[:2] == (1008, "Unauthorized")


def test_a_role_joins_only_its_realms(world: World) -> None:
    speaker = world.speaker("json", principal("me", Role(realms=("nexus",))))
    speaker.hello("guests")
    assert speaker.one()[2] == "wamp.error.authorization_denied"


def test_a_subject_with_too_many_connections_is_not_aborted_so_that_it_comes_again(world: World) -> None:
    speaker = world.speaker()
    speaker.line.refusal = NexusError("rate_limited", "Too many connections of this subject")
    speaker.hello("guests")
    assert speaker.heard() == []
    assert speaker.line.closed is not None
    assert (speaker.line.closed[:3], speaker.line.dropped) == ((1013, "Try again later", True), True)


def test_goodbye_is_answered_and_after_it_nothing_is_sent(world: World) -> None:
    speaker = world.join()
    speaker.subscribe("com.topic")
    speaker.register("com.mine")
    speaker.call("com.mine")
    assert speaker.one()[0] == INVOCATION
    publisher = world.join("other")
    publisher.publish("com.topic", [1])
    speaker.say(GOODBYE, {"message": "bye"}, "wamp.close.close_realm")
    assert speaker.heard() == [[GOODBYE, {}, "wamp.close.goodbye_and_out"]]
    assert (speaker.line.closed, speaker.line.finished) == (None, (1000, "Goodbye", False, 0, "wamp.close.normal", ""))
    speaker.say_bytes(b"[99]")
    speaker.hello()
    speaker.give(1, ["late"])
    publisher.publish("com.topic", [2])
    assert speaker.heard() == []
    assert not world.metrics.errors
    realm: Any = world.realms["nexus"]
    assert realm._roster.get(speaker.number) is None
    speaker.line.close(SHUTTING_DOWN)
    assert speaker.heard() == []


def test_abort_of_the_client_ends_the_session_without_a_word(world: World) -> None:
    for speaker in (world.speaker(), world.join()):
        speaker.say(ABORT, {"message": "no"}, "wamp.close.normal")
        assert speaker.heard() == []
        assert speaker.line.closed is not None


STAY_AWAY = (TOKEN_EXPIRED, REPLACED, REVOKED, DISCONNECTED)
COME_BACK = (SHUTTING_DOWN, HEARTBEAT_TIMEOUT, SLOW_CONSUMER, RATE_LIMITED, TOO_MANY_ERRORS)


@pytest.mark.parametrize("close", STAY_AWAY)
def test_a_session_whose_client_should_stay_away_gets_goodbye(close: Close, world: World) -> None:
    speaker = world.join()
    speaker.line.close(close)
    assert speaker.heard() == [[GOODBYE, {"message": close.reason}, "wamp.close.normal"]]
    assert not speaker.line.dropped


@pytest.mark.parametrize("close", COME_BACK)
def test_a_session_whose_client_should_come_back_gets_no_goodbye(close: Close, world: World) -> None:
    speaker = world.join()
    speaker.line.close(close)
    assert speaker.heard() == []
    assert not speaker.line.dropped, "the close code says why"


@pytest.mark.parametrize("close", COME_BACK)
def test_who_has_not_joined_and_should_come_back_is_dropped_without_abort(close: Close, world: World) -> None:
    challenged = world.speaker()
    challenged.hello("guests", authmethods=["ticket"], authid="x")
    assert challenged.one()[0] == CHALLENGE
    for speaker in (world.speaker(), challenged):
        speaker.line.close(close)
        assert speaker.heard() == []
        assert speaker.line.dropped, "Autobahn|Python takes a close in order before WELCOME for the end of its work"


def test_who_has_not_joined_in_time_is_told_so_by_abort(world: World) -> None:
    challenged = world.speaker()
    challenged.hello("guests", authmethods=["ticket"], authid="x")
    assert challenged.one()[0] == CHALLENGE
    for speaker in (world.speaker(), challenged):
        speaker.line.close(UNAUTHORIZED)
        assert speaker.heard() == [[ABORT, {"message": "Unauthorized"}, "wamp.error.authentication_failed"]]


def test_who_never_gets_a_session_is_told_why_by_abort(world: World) -> None:
    farewell = world._dialects["json"].farewell(UNAUTHORIZED)
    assert CODECS["json"].value(farewell[4:]) == [
        ABORT,
        {"message": "Unauthorized"},
        "wamp.error.authentication_failed",
    ]


def test_a_fault_of_the_server_ends_the_session_and_its_client_may_come_back(world: World) -> None:
    speaker = world.join()
    speaker.session.broken(b"{}")
    assert speaker.heard() == []
    assert speaker.line.closed is not None
    assert speaker.line.closed.code == 1011


def test_of_a_session_that_has_gone_nothing_is_left(world: World) -> None:
    realm: Any = world.realms["nexus"]
    speaker = world.join()
    speaker.subscribe("com.topic")
    speaker.register("com.procedure")
    speaker.call("com.procedure")
    speaker.call("wamp.session.add_testament", ["com.left", [], {}])
    speaker.lose()
    world.run()
    assert not realm._roster._peers
    assert not realm._subscriptions._clients
    assert not realm._registry._peers
    assert not realm._invocations._hands
    assert not realm._testaments._testaments
    assert not world.clock.getDelayedCalls()


def test_a_session_that_leaves_while_the_bus_is_asked_leaves_nothing() -> None:
    bus = HandBus()
    bus.confirms = False
    world = World(bus=lambda _clock: bus)
    speaker = world.join()
    speaker.say(SUBSCRIBE, 1, {}, "com.topic")
    speaker.say(SUBSCRIBE, 2, {}, "com.topic")
    assert speaker.heard() == []
    bus.confirm()
    assert [message[:2] for message in speaker.heard()] == [[SUBSCRIBED, 1], [SUBSCRIBED, 2]]
    speaker.say(SUBSCRIBE, 3, {}, "com.other")
    speaker.lose()
    bus.confirm()
    assert bus.subscribed == set()
    realm: Any = world.realms["nexus"]
    assert not realm._subscriptions._clients


# --- URIs


REQUESTS: Final[list[tuple[int, list[Any]]]] = [
    (PUBLISH, [PUBLISH, 7, {"acknowledge": True}]),
    (SUBSCRIBE, [SUBSCRIBE, 7, {}]),
    (CALL, [CALL, 7, {}]),
    (REGISTER, [REGISTER, 7, {}]),
]


@pytest.mark.parametrize(("code", "request_"), REQUESTS)
@pytest.mark.parametrize("uri", ["", ".", "a..b", ".a", "a.", "a b", "a#b", "a.\tb", "a\n", "x" * 256, "a.*", "a.**", "\x00"])
def test_a_uri_that_is_none_is_an_error(uri: str, code: int, request_: list[Any], world: World) -> None:
    speaker = world.join()
    speaker.say(*request_, uri)
    told = speaker.one()
    assert told[:5] == [ERROR, code, 7, {}, "wamp.error.invalid_uri"]
    assert told[6] == {"code": "invalid_message", "retryable": False}


@pytest.mark.parametrize(("code", "request_"), REQUESTS)
@pytest.mark.parametrize("uri", ["com.Example", "com.a-b", "com.ä", "com.a:b"])
def test_a_realm_with_strict_uris_takes_no_others(uri: str, code: int, request_: list[Any]) -> None:
    world = World({"strict": Realm(uris="strict"), "loose": Realm()})
    speaker = world.join(realm="strict")
    speaker.say(*request_, uri)
    assert speaker.one()[:5] == [ERROR, code, 7, {}, "wamp.error.invalid_uri"]
    free = world.join(realm="loose")
    free.say(*request_, uri)
    assert free.one()[4:5] != ["wamp.error.invalid_uri"]


@pytest.mark.parametrize(("code", "request_"), [REQUESTS[0], REQUESTS[3]])
def test_names_under_wamp_are_the_protocols_own_and_those_under_nexus_the_servers(
    code: int, request_: list[Any], world: World
) -> None:
    speaker = world.join()
    for uri, told in (("wamp.session.on_join", "wamp.error.invalid_uri"), ("nexus.broadcast", "wamp.error.not_authorized")):
        speaker.say(*request_, uri)
        assert speaker.one()[:5] == [ERROR, code, 7, {}, told]


@pytest.mark.parametrize(
    ("match", "good", "bad"),
    [
        ("prefix", ["", "a", "a.", "a.b"], [".a", "a..b", "a b"]),
        ("wildcard", [".b", "a.", "a..c", "a.b", ".", ""], ["a b", "#"]),
    ],
)
def test_patterns_are_checked_by_their_match_policy(match: str, good: list[str], bad: list[str], world: World) -> None:
    for uri in good:
        speaker = world.join()
        assert speaker.subscribe(uri, match=match)
        assert speaker.register(uri, match=match)
    for uri in bad:
        for kind in (SUBSCRIBE, REGISTER):
            speaker = world.join()
            speaker.say(kind, 7, {"match": match}, uri)
            assert speaker.one()[:5] == [ERROR, kind, 7, {}, "wamp.error.invalid_uri"]


def test_unknown_options_are_nobodys_fault(world: World) -> None:
    speaker = world.join()
    assert speaker.subscribe("com.topic", nkey="x", _mine=1)
    assert speaker.register("com.procedure", concurrency=1, force_reregister=True, forward_timeout=True)
    speaker.publish("com.topic", [1], rkey="x", _mine=[1], acknowledge=True, exclude_me=False)
    assert [message[0] for message in speaker.heard()] == [PUBLISHED, EVENT]


# --- requests and replies


def test_a_publication_without_acknowledge_is_never_answered(world: World) -> None:
    speaker = world.join(role=Role(publish=("com.**",)))
    for topic in ("a b", "wamp.x", "nexus.x", "org.x", "com.x"):
        speaker.publish(topic, [1])
    assert speaker.heard() == []
    assert not speaker.over
    assert world.metrics.errors["forbidden"] == 2
    assert world.metrics.errors["invalid_message"] == 2


def test_rights_are_asked_for_each_request(world: World) -> None:
    speaker = world.join(role=Role(subscribe=("a.**",), publish=("a.b",), call=("a.b",), register=("a.*",)))
    for request, uri, good in [
        ([SUBSCRIBE, 7, {}], "a.b", True),
        ([SUBSCRIBE, 7, {}], "b", False),
        ([SUBSCRIBE, 7, {"match": "prefix"}], "a.", True),
        ([SUBSCRIBE, 7, {"match": "prefix"}], "a", False),
        ([SUBSCRIBE, 7, {"match": "prefix"}], "", False),
        ([SUBSCRIBE, 7, {"match": "wildcard"}], "a.", True),
        ([SUBSCRIBE, 7, {"match": "wildcard"}], ".b", False),
        ([SUBSCRIBE, 7, {}], "wamp.session.on_join", False),
        ([PUBLISH, 7, {"acknowledge": True}], "a.b", True),
        ([PUBLISH, 7, {"acknowledge": True}], "a.c", False),
        ([REGISTER, 7, {}], "a.b", True),
        ([REGISTER, 7, {}], "a.b.c", False),
        ([REGISTER, 7, {"match": "prefix"}], "a.", False),
        ([REGISTER, 7, {"match": "wildcard"}], "a.", True),
        ([CALL, 7, {}], "a.c", False),
        ([CALL, 7, {}], "wamp.session.count", False),
    ]:
        speaker.say(*request, uri)
        told = speaker.one()
        assert (told[0] != ERROR) is good, (request, uri, told)
        if not good:
            assert told[4:] == ["wamp.error.not_authorized", told[5], {"code": "forbidden", "retryable": False}]


def test_a_subscription_has_one_id_for_all_and_is_left_once(world: World) -> None:
    one, other = world.join(), world.join()
    subscription = one.subscribe("com.topic")
    assert (one.subscribe("com.topic"), other.subscribe("com.topic")) == (subscription, subscription)
    assert other.subscribe("com.topic", match="prefix") != subscription
    one.say(UNSUBSCRIBE, 8, subscription)
    one.say(UNSUBSCRIBE, 9, subscription)
    one.say(UNSUBSCRIBE, 10, 2**53)
    assert one.heard() == [
        [UNSUBSCRIBED, 8],
        *(
            [ERROR, UNSUBSCRIBE, n, {}, "wamp.error.no_such_subscription", ["No such subscription of this session"], kwargs]
            for n in (9, 10)
            for kwargs in [{"code": "invalid_message", "retryable": False}]
        ),
    ]
    world.join().publish("com.topic", [1])
    assert one.heard() == []
    assert len(other.heard()) == 2


def test_a_registration_is_left_once_and_only_by_who_has_it(world: World) -> None:
    callee, other = world.join(), world.join()
    registration = callee.register("com.procedure")
    other.say(UNREGISTER, 8, registration)
    assert other.one()[:5] == [ERROR, UNREGISTER, 8, {}, "wamp.error.no_such_registration"]
    callee.say(UNREGISTER, 8, registration)
    callee.say(UNREGISTER, 9, registration)
    assert [message[:3] for message in callee.heard()] == [[UNREGISTERED, 8], [ERROR, UNREGISTER, 9]]
    assert other.register("com.procedure") == registration, "ids are those of the names"


def test_a_second_registration_is_told_what_is_in_its_way(world: World) -> None:
    one, other = world.join(), world.join()
    one.register("com.single")
    one.register("com.shared", invoke="roundrobin")
    for name, options, uri in [
        ("com.single", {}, "wamp.error.procedure_already_exists"),
        ("com.single", {"invoke": "roundrobin"}, "wamp.error.procedure_exists_with_different_invocation_policy"),
        ("com.shared", {}, "wamp.error.procedure_exists_with_different_invocation_policy"),
        ("com.shared", {"invoke": "last"}, "wamp.error.procedure_exists_with_different_invocation_policy"),
    ]:
        other.say(REGISTER, 7, options, name)
        assert other.one()[:5] == [ERROR, REGISTER, 7, {}, uri]


def test_what_the_server_executes_itself_exists_already() -> None:
    world = World(handlers={"com.own": lambda _invoked: 1})
    speaker = world.join()
    speaker.say(REGISTER, 7, {}, "com.own")
    assert speaker.one()[4] == "wamp.error.procedure_already_exists"


def test_a_session_has_as_many_subscriptions_registrations_and_calls_as_the_limits_allow() -> None:
    world = World(limits=Limits(subscriptions=2, registrations=2, pending=2))
    callee = world.join()
    speaker = world.join()
    for number in range(2):
        callee.register(f"com.p{number}")
        speaker.subscribe(f"com.t{number}")
        speaker.call(f"com.p{number}")
    callee.heard()
    callee.say(REGISTER, 9, {}, "com.p2")
    speaker.say(SUBSCRIBE, 9, {}, "com.t2")
    refused = speaker.call("com.p0")
    for told in (callee.one(), *speaker.heard()):
        assert told[4] == "wamp.error.unavailable"
        assert told[6] == {"code": "limit_exceeded", "retryable": False}
    callee.give(1)
    assert speaker.one()[:2] == [RESULT, 2]
    assert speaker.call("com.p0") > refused
    assert callee.one()[0] == INVOCATION


def test_subscribed_comes_before_the_first_event_and_registered_before_the_first_invocation(world: World) -> None:
    speaker = world.join()
    speaker.subscribe("com.other")
    speaker.publish("com.topic", [1], exclude_me=False)
    speaker.publish("com.other", [1], exclude_me=False)
    speaker.say(SUBSCRIBE, 7, {}, "com.topic")
    speaker.publish("com.topic", [2], exclude_me=False)
    heard = speaker.heard()
    assert [message[0] for message in heard] == [SUBSCRIBED, EVENT, EVENT, EVENT]
    agent = world.agent()
    agent.say(type="command", command="com.later", ttl=60)
    world.run()
    speaker.say(REGISTER, 8, {"invoke": "roundrobin"}, "com.later")
    assert [message[0] for message in speaker.heard()] == [REGISTERED, INVOCATION]


def test_payloads_of_all_shapes_are_events_of_the_same_shape(world: World) -> None:
    speaker = world.join()
    hearers = {codec: world.join(codec=codec) for codec in CODECS}
    for hearer in hearers.values():
        hearer.subscribe("com.topic")
    shapes: list[list[Any]] = [
        [],
        [[]],
        [[], {}],
        [[1]],
        [["a", None, True, 1.5, b"bytes", [1, {}], {"x": {}}]],
        [[], {"a": 1}],
        [[{"a": 1}]],
        [[1, 2], {"a": [1]}],
    ]
    for shape in shapes:
        speaker.publish("com.topic", *shape)
    for hearer in hearers.values():
        heard = [message[4:] for message in hearer.heard()]
        assert [bare(shape) for shape in heard] == [bare(shape) for shape in shapes]


def bare(payload: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    return (payload[0] if payload else []), (payload[1] if len(payload) > 1 else {})


def test_a_payload_that_others_could_not_be_told_is_refused(world: World) -> None:
    deep: Any = []
    for _ in range(40):
        deep = [deep]
    speaker = world.join(codec="cbor")
    speaker.register("com.mine")
    speaker.say(PUBLISH, 7, {"acknowledge": True}, "com.topic", [deep])
    assert speaker.one()[:5] == [ERROR, PUBLISH, 7, {}, "wamp.error.invalid_argument"]
    speaker.say(CALL, 8, {}, "com.mine", [], {"deep": deep})
    assert speaker.one()[:5] == [ERROR, CALL, 8, {}, "wamp.error.invalid_argument"]
    speaker.call("com.mine")
    speaker.give(speaker.invocation(), [deep])
    assert [*speaker.one()[:1], speaker.over] == [ERROR, False]


def test_a_client_sends_errors_of_invocations_only(world: World) -> None:
    for kind in (PUBLISH, SUBSCRIBE, CALL, REGISTER, 0, 99):
        speaker = world.join()
        speaker.say(ERROR, kind, 1, {}, "com.error")
        assert violated(speaker).startswith("request_type: ")


def test_an_answer_that_others_could_not_be_told_is_an_error_for_who_waits(world: World) -> None:
    deep: Any = []
    for _ in range(40):
        deep = [deep]
    caller, callee = world.join(), world.join()
    callee.register("com.procedure")
    answers: list[Callable[[int], None]] = [
        lambda number: callee.give(number, [deep]),
        lambda number: callee.give(number, [deep], progress=True),
        lambda number: callee.fail(number, "com.error", [deep]),
        lambda number: callee.fail(number, "com.error", [], {"deep": deep}),
    ]
    for answer in answers:
        request = caller.call("com.procedure", receive_progress=True)
        answer(callee.invocation())
        assert caller.one()[:5] == [ERROR, CALL, request, {}, "wamp.error.invalid_argument"]
        assert not callee.over


def test_what_is_too_long_for_its_receiver_is_told_to_who_waits(world: World) -> None:
    small = world.join(largest=2048)
    caller = world.join()
    small.register("com.small")
    request = caller.call("com.small", ["x" * 3000])
    told = caller.one()
    assert told[:5] == [ERROR, CALL, request, {}, "wamp.error.payload_size_exceeded"]
    assert told[6] == {"code": "too_large", "retryable": False}
    assert small.heard() == []
    caller.register("com.large")
    for answer in (caller.give, lambda number, *payload: caller.fail(number, "com.error", *payload)):
        request = small.call("com.large")
        answer(caller.invocation(), ["x" * 3000])
        assert small.one()[:5] == [ERROR, CALL, request, {}, "wamp.error.payload_size_exceeded"]


def test_progress_that_is_too_long_ends_the_call_and_the_callee_is_told(world: World) -> None:
    small, callee = world.join(largest=2048), world.join()
    callee.register("com.large")
    request = small.call("com.large", receive_progress=True)
    number = callee.invocation()
    callee.give(number, ["x" * 3000], progress=True)
    assert small.one()[:5] == [ERROR, CALL, request, {}, "wamp.error.payload_size_exceeded"]
    assert callee.one()[:2] == [INTERRUPT, number]
    callee.give(number, [1])
    assert small.heard() == []


@pytest.mark.parametrize("codec", ["msgpack", "cbor"])
def test_a_result_that_the_callers_serializer_cannot_say_is_answered_all_the_same(codec: str) -> None:
    deep: Any = None
    for _ in range(300):
        deep = [deep]
    caller = World(handlers={"deep": lambda _invoked: deep}).join(codec=codec)
    request = caller.call("deep")
    answer = caller.one()
    assert (answer[:3], answer[4]) == ([ERROR, CALL, request], "wamp.error.invalid_argument")
