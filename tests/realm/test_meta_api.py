"""The meta API: what its procedures answer and do, and what meta events tell."""

from __future__ import annotations

from typing import Any, Final

import pytest

from nexus_tw.model.settings import Role
from tests.protocols.wamp.rules.core import World
from tests.realm.asking import EVERYTHING, INSTANT, ask, events, refused
from tests.wamp.peer import EVENT, GOODBYE, UNREGISTERED, UNSUBSCRIBED

# --- sessions


def test_sessions_are_counted_listed_and_described(world: World) -> None:
    one, other = world.join("one", role_name="a"), world.join("other", codec="cbor", role_name="b")
    agent = world.agent("json")
    assert ask(one, "wamp.session.count") == 3
    assert ask(one, "wamp.session.count", [["a", "x"]]) == 1
    assert ask(one, "wamp.session.count", [], {"filter_authroles": ["b", "a"]}) == 2
    assert ask(one, "wamp.session.list")[:2] == [one.number, other.number]
    assert ask(one, "wamp.session.list", [["b"]]) == [other.number]
    assert ask(one, "wamp.session.list", [[]]) == []
    assert ask(one, "wamp.session.get", [other.number]) == {
        "session": other.number,
        "authid": "other",
        "authrole": "b",
        "authmethod": "transport",
        "authprovider": "transport",
        "transport": {"peer": "127.0.0.1", "protocol": "wamp.2.cbor over test"},
    }
    json: Any = agent.session
    assert ask(one, "wamp.session.get", [json.number])["authid"] == "json"
    assert refused(one, "wamp.session.get", [5])[0] == "wamp.error.no_such_session"
    other.lose()
    assert ask(one, "wamp.session.count") == 2


@pytest.mark.parametrize(
    ("procedure", "payload", "member"),
    [
        ("wamp.session.count", [["a", 1]], "filter_authroles"),
        ("wamp.session.count", ["a"], "filter_authroles"),
        ("wamp.session.list", [{}], "filter_authroles"),
        ("wamp.session.get", [], "session"),
        ("wamp.session.get", ["1"], "session"),
        ("wamp.session.get", [True], "session"),
        ("wamp.session.get", [1.5], "session"),
        ("wamp.session.get", [None], "session"),
        ("wamp.session.kill", [], "session"),
        ("wamp.session.kill_by_authid", [], "authid"),
        ("wamp.session.kill_by_authrole", [5], "authrole"),
        ("wamp.session.add_testament", [], "topic"),
        ("wamp.session.add_testament", ["com.a", 5], "args"),
        ("wamp.session.add_testament", ["com.a", [], []], "kwargs"),
        ("wamp.session.add_testament", ["com.a", True], "args"),
        ("wamp.subscription.get", ["1"], "subscription"),
        ("wamp.subscription.lookup", [5], "topic"),
        ("wamp.subscription.lookup", ["a b"], "topic"),
        ("wamp.subscription.lookup", ["a", {"match": "regex"}], "match"),
        ("wamp.subscription.lookup", ["a", {"match": []}], "match"),
        ("wamp.subscription.lookup", ["a", []], "options"),
        ("wamp.subscription.match", [], "topic"),
        ("wamp.registration.get", [], "registration"),
        ("wamp.registration.lookup", ["a..b"], "procedure"),
        ("wamp.registration.match", [1], "procedure"),
    ],
)
def test_a_wrong_argument_is_named(procedure: str, payload: list[Any], member: str, world: World) -> None:
    uri, text = refused(world.join(), procedure, payload)
    assert uri == "wamp.error.invalid_argument"
    assert member in text


def test_an_id_may_be_a_float_wherever_a_procedure_takes_one(world: World) -> None:
    """JavaScript's MessagePack and CBOR write the larger integers as floats."""
    for codec in ("json", "msgpack", "cbor"):
        admin, hearer, victim = world.join(codec=codec), world.join(), world.join("victim")
        subscription, registration = victim.subscribe("com.topic"), victim.register("com.procedure")
        session, number = float(victim.number), float(subscription)
        assert session == victim.number
        assert ask(admin, "wamp.session.get", [session])["authid"] == "victim"
        assert ask(admin, "wamp.session.get", [], {"session": session})["authid"] == "victim"
        assert ask(admin, "wamp.subscription.get", [number])["uri"] == "com.topic"
        assert ask(admin, "wamp.subscription.list_subscribers", [number]) == [victim.number]
        assert ask(admin, "wamp.subscription.count_subscribers", [number]) == 1
        assert ask(admin, "wamp.registration.get", [float(registration)])["uri"] == "com.procedure"
        assert ask(admin, "wamp.registration.list_callees", [float(registration)]) == [victim.number]
        assert ask(admin, "wamp.registration.count_callees", [float(registration)]) == 1
        ask(admin, "wamp.subscription.remove_subscriber", [number, session])
        ask(admin, "wamp.registration.remove_callee", [float(registration)], {"callee": session})
        assert [message[0] for message in victim.heard()] == [UNSUBSCRIBED, UNREGISTERED]
        for listener in (hearer, victim):
            listener.subscribe("com.left")
        options = {"eligible": [session, float(hearer.number)], "exclude": [float(hearer.number)], "exclude_me": None}
        leaver = world.join(codec=codec)
        ask(leaver, "wamp.session.add_testament", ["com.left", ["bye"]], {"publish_options": options})
        leaver.lose()
        assert (events(victim), events(hearer)) == ([["bye"]], [])
        ask(admin, "wamp.session.kill", [session])
        assert victim.over
        hearer.lose()
        admin.lose()


@pytest.mark.parametrize("number", [0, -1, 0.0, 1.5, 2**53 + 1, 2.0**53 + 2, 1e300, True, "1", None, [1]])
@pytest.mark.parametrize(
    ("procedure", "place", "member"),
    [
        ("session.get", 0, "session"),
        ("session.kill", 0, "session"),
        ("subscription.get", 0, "subscription"),
        ("subscription.remove_subscriber", 1, "subscriber"),
        ("registration.get", 0, "registration"),
        ("registration.remove_callee", 1, "callee"),
    ],
)
def test_an_argument_that_is_no_id_is_named(procedure: str, place: int, member: str, number: Any, world: World) -> None:
    speaker = world.join()
    there = speaker.subscribe("com.a") if procedure.startswith("sub") else speaker.register("com.a")
    uri, text = refused(speaker, f"wamp.{procedure}", [there, number] if place else [number])
    assert (uri, member in text) == ("wamp.error.invalid_argument", True)
    assert "2^53" in text


def test_an_administrator_ends_a_session_which_is_told_why(world: World) -> None:
    admin, victim = world.join(), world.join("victim")
    assert ask(admin, "wamp.session.kill", [victim.number], {"reason": "com.enough", "message": "go"}) is None
    assert victim.one() == [GOODBYE, {"message": "go"}, "com.enough"]
    assert victim.line.closed is not None
    assert victim.line.closed[:2] == (4502, "Disconnected by administrator")
    victim = world.join("victim")
    ask(admin, "wamp.session.kill", [victim.number])
    assert victim.one() == [GOODBYE, {"message": "Disconnected by administrator"}, "wamp.close.normal"]
    assert refused(admin, "wamp.session.kill", [victim.number])[0] == "wamp.error.no_such_session"
    assert refused(admin, "wamp.session.kill", [admin.number])[0] == "wamp.error.no_such_session"


def test_sessions_are_ended_by_whose_they_are_but_never_the_one_that_asks(world: World) -> None:
    admin = world.join("ops", role_name="ops")
    same = world.join("ops", role_name="ops")
    others = [world.join(f"guest-{number}", role_name="guest") for number in range(3)]
    agent = world.agent("json")
    assert ask(admin, "wamp.session.kill_by_authid", ["guest-0"]) == [others[0].number]
    assert ask(admin, "wamp.session.kill_by_authrole", ["guest"]) == 2
    assert ask(admin, "wamp.session.kill_by_authid", ["ops"]) == [same.number]
    assert all(one.over for one in (*others, same))
    assert ask(admin, "wamp.session.kill_all") == 1
    assert agent.line.closed is not None
    (farewell,) = agent.heard()
    assert (farewell["type"], farewell["code"]) == ("disconnect", 4502)
    assert not admin.over


KILLS: Final = ["kill", "kill_by_authid", "kill_by_authrole", "kill_all"]


@pytest.mark.parametrize("kill", KILLS)
@pytest.mark.parametrize("reason", ["", "not a uri", "a..b", "a.#", "a.\x1bb", 5, ["a"]])
def test_a_bad_reason_of_a_kill_is_an_invalid_uri(kill: str, reason: Any, world: World) -> None:
    admin, victim = world.join(), world.join("victim", role_name="victims")
    whom = {"kill": [victim.number], "kill_by_authid": ["victim"], "kill_by_authrole": ["victims"], "kill_all": []}[kill]
    uri, text = refused(admin, f"wamp.session.{kill}", whom, {"reason": reason})
    assert (uri, "reason" in text) == ("wamp.error.invalid_uri", True)
    assert not victim.over


@pytest.mark.parametrize("reason", ["com.*.why", "com." + "x" * 300, "com.Größe"])
def test_the_reason_of_a_kill_may_be_any_loose_uri(reason: str, world: World) -> None:
    admin, victim = world.join(), world.join("victim")
    assert ask(admin, "wamp.session.kill", [victim.number], {"reason": reason}) is None
    assert victim.one()[2] == reason


def test_what_takes_from_others_is_for_administrators(world: World) -> None:
    victim, other = world.join(), world.join(role=EVERYTHING)
    subscription, registration = victim.subscribe("com.topic"), victim.register("com.procedure")
    for name, *args in [
        ("session.kill", victim.number),
        ("session.kill", 5),
        ("session.kill_by_authid", "somebody"),
        ("session.kill_by_authrole", "test"),
        ("session.kill_all",),
        ("subscription.remove_subscriber", subscription, victim.number),
        ("registration.remove_callee", registration, victim.number),
    ]:
        assert refused(other, f"wamp.{name}", args)[0] == "wamp.error.not_authorized"
    assert not victim.over
    assert victim.heard() == []


def test_meta_procedures_need_the_right_to_call_them(world: World) -> None:
    speaker = world.join(role=Role(call=("com.**", "wamp.session.count"), telemetry=("**",)))
    realm: Any = world.realms["nexus"]
    for name in realm._registry._own:
        if name == "wamp.session.count":
            assert ask(speaker, name) == 1
        elif name.startswith("wamp."):
            assert refused(speaker, name)[0] == "wamp.error.not_authorized"


def test_each_realm_has_sessions_of_its_own(world: World) -> None:
    here, there = world.join(), world.join(realm="other")
    for one, other in ((here, there), (there, here)):
        assert ask(one, "wamp.session.list") == [one.number]
        assert refused(one, "wamp.session.get", [other.number])[0] == "wamp.error.no_such_session"
        assert refused(one, "wamp.session.kill", [other.number])[0] == "wamp.error.no_such_session"
        assert ask(one, "wamp.session.kill_all") == 0
        assert ask(one, "wamp.session.kill_by_authid", ["somebody"]) == []
        assert ask(one, "wamp.subscription.list") == {"exact": [], "prefix": [], "wildcard": []}
        one.subscribe("com.topic")
        one.register("com.procedure")
    here.publish("com.topic", [1])
    here.call("com.procedure")
    world.join().publish("com.topic", [2])
    assert there.heard() == []
    assert [message[0] for message in here.heard()] == [68, EVENT]


def test_who_comes_and_goes_is_told(world: World) -> None:
    watcher = world.join()
    watcher.subscribe("wamp.session.on_join")
    watcher.subscribe("wamp.session.on_leave")
    guest = world.join("guest", role_name="visitors")
    world.join(realm="other")
    ((joined,),) = events(watcher)
    assert joined == ask(watcher, "wamp.session.get", [guest.number])
    guest.lose()
    assert events(watcher) == [[guest.number, "guest", "visitors"]]
    agent = world.agent("json")
    ((joined,),) = events(watcher)
    assert (joined["authid"], joined["authmethod"]) == ("json", "token")
    agent.line.lose()
    assert events(watcher) == [[joined["session"], "json", "test"]]


# --- subscriptions


def test_subscriptions_are_listed_looked_up_and_described(world: World) -> None:
    one, other = world.join(), world.join()
    exact = one.subscribe("a.b.c")
    prefix = one.subscribe("a.b", match="prefix")
    wildcard = other.subscribe("a..c", match="wildcard")
    other.subscribe("a.b.c")
    assert ask(one, "wamp.subscription.list") == {"exact": [exact], "prefix": [prefix], "wildcard": [wildcard]}
    assert ask(one, "wamp.subscription.lookup", ["a.b.c"]) == exact
    assert ask(one, "wamp.subscription.lookup", ["a.b", {"match": "prefix"}]) == prefix
    assert ask(one, "wamp.subscription.lookup", ["a..c", {"match": "wildcard"}]) == wildcard
    assert ask(one, "wamp.subscription.lookup", ["a.b"]) is None
    assert sorted(ask(one, "wamp.subscription.match", ["a.b.c"])) == sorted([exact, prefix, wildcard])
    assert ask(one, "wamp.subscription.match", ["x"]) is None
    for number, uri, match in ((exact, "a.b.c", "exact"), (prefix, "a.b", "prefix"), (wildcard, "a..c", "wildcard")):
        told = ask(one, "wamp.subscription.get", [number])
        assert INSTANT.match(told.pop("created"))
        assert told == {"id": number, "uri": uri, "match": match}
    assert ask(one, "wamp.subscription.list_subscribers", [exact]) == [one.number, other.number]
    assert ask(one, "wamp.subscription.count_subscribers", [exact]) == 2
    for name in ("get", "list_subscribers", "count_subscribers"):
        assert refused(one, f"wamp.subscription.{name}", [10**6])[0] == "wamp.error.no_such_subscription"


def test_subscriptions_of_json_clients_are_among_them(world: World) -> None:
    agent, speaker = world.agent(), world.join()
    agent.say(type="subscribe", events=["task.**", "*.status", "a.*.**", "exact"], filters={"x": 1})
    agent.heard()
    listed = ask(speaker, "wamp.subscription.list")
    assert {match: len(ids) for match, ids in listed.items()} == {"exact": 1, "prefix": 1, "wildcard": 2}
    prefix = ask(speaker, "wamp.subscription.lookup", ["task.", {"match": "prefix"}])
    assert listed["prefix"] == [prefix]
    json: Any = agent.session
    assert ask(speaker, "wamp.subscription.list_subscribers", [prefix]) == [json.number]


def test_subscriptions_that_come_and_go_are_told_in_order(world: World) -> None:
    watcher, one, other = world.join(), world.join(), world.join()
    watcher.subscribe("wamp.subscription.", match="prefix")
    subscription = one.subscribe("com.topic")
    other.subscribe("com.topic")
    one.subscribe("com.topic")  # which it has
    one.say(34, 9, subscription)
    other.lose()
    heard = watcher.heard()
    created = heard[0][4]
    assert INSTANT.match(created[1].pop("created"))
    assert [(message[3]["topic"].rpartition(".")[2], message[4]) for message in heard] == [
        ("on_create", [one.number, {"id": subscription, "uri": "com.topic", "match": "exact"}]),
        ("on_subscribe", [one.number, subscription]),
        ("on_subscribe", [other.number, subscription]),
        ("on_unsubscribe", [one.number, subscription]),
        ("on_unsubscribe", [other.number, subscription]),
        ("on_delete", [other.number, subscription]),
    ]


def test_to_watch_is_no_news(world: World) -> None:
    watcher = world.join()
    watcher.subscribe("wamp.", match="prefix")
    other = world.join()
    watcher.heard()
    number = other.subscribe("wamp.subscription.on_create")
    ask(other, "wamp.session.count")
    other.say(34, 9, number)
    assert watcher.heard() == []


def test_an_administrator_takes_a_subscription_away(world: World) -> None:
    admin, victim, agent = world.join(), world.join(), world.agent()
    subscription = victim.subscribe("com.topic")
    agent.say(type="subscribe", events=["com.topic"])
    agent.heard()
    assert ask(admin, "wamp.subscription.remove_subscriber", [subscription, victim.number, "com.reason"]) is None
    assert victim.one() == [UNSUBSCRIBED, 0, {"subscription": subscription, "reason": "com.reason"}]
    json: Any = agent.session
    ask(admin, "wamp.subscription.remove_subscriber", [subscription, json.number], {"reason": "com.reason"})
    told = agent.one()
    assert (told["type"], told["events"]) == ("unsubscribed", ["com.topic"])
    admin.publish("com.topic", [1])
    assert victim.heard() == []
    assert agent.heard() == []
    assert refused(admin, "wamp.subscription.remove_subscriber", [subscription, victim.number])[0] == (
        "wamp.error.no_such_subscription"
    )
    victim.subscribe("com.topic")
    number = ask(admin, "wamp.subscription.lookup", ["com.topic"])
    assert refused(admin, "wamp.subscription.remove_subscriber", [number, 5])[0] == "wamp.error.no_such_session"


# --- registrations


def test_registrations_are_listed_looked_up_and_described(world: World) -> None:
    one, other = world.join(), world.join()
    exact = one.register("a.b.c", invoke="roundrobin")
    other.register("a.b.c", invoke="roundrobin")
    prefix = one.register("a.b", match="prefix")
    wildcard = other.register("a..c", match="wildcard", invoke="last")
    assert ask(one, "wamp.registration.list") == {"exact": [exact], "prefix": [prefix], "wildcard": [wildcard]}
    assert ask(one, "wamp.registration.lookup", ["a.b.c"]) == exact
    assert ask(one, "wamp.registration.lookup", ["a.b", {"match": "prefix"}]) == prefix
    assert ask(one, "wamp.registration.lookup", ["a.b"]) is None
    assert ask(one, "wamp.registration.match", ["a.b.c"]) == exact
    assert ask(one, "wamp.registration.match", ["a.b.d"]) == prefix
    assert ask(one, "wamp.registration.match", ["a.x.c"]) == wildcard
    assert ask(one, "wamp.registration.match", ["x"]) is None
    for number, uri, match, invoke in (
        (exact, "a.b.c", "exact", "roundrobin"),
        (prefix, "a.b", "prefix", "single"),
        (wildcard, "a..c", "wildcard", "last"),
    ):
        told = ask(one, "wamp.registration.get", [number])
        assert INSTANT.match(told.pop("created"))
        assert told == {"id": number, "uri": uri, "match": match, "invoke": invoke}
    assert ask(one, "wamp.registration.list_callees", [exact]) == [one.number, other.number]
    assert ask(one, "wamp.registration.count_callees", [exact]) == 2
    for name in ("get", "list_callees", "count_callees"):
        assert refused(one, f"wamp.registration.{name}", [10**6])[0] == "wamp.error.no_such_registration"


def test_registrations_that_come_and_go_are_told_in_order(world: World) -> None:
    watcher, one, agent = world.join(), world.join(), world.agent()
    watcher.subscribe("wamp.registration.", match="prefix")
    registration = one.register("com.shared", invoke="roundrobin")
    agent.say(type="register", commands=["com.shared"])
    one.say(66, 9, registration)
    agent.line.lose()
    heard = watcher.heard()
    assert INSTANT.match(heard[0][4][1].pop("created"))
    json: Any = agent.session
    assert [(message[3]["topic"].rpartition(".")[2], message[4]) for message in heard] == [
        (
            "on_create",
            [one.number, {"id": registration, "uri": "com.shared", "match": "exact", "invoke": "roundrobin"}],
        ),
        ("on_register", [one.number, registration]),
        ("on_register", [json.number, registration]),
        ("on_unregister", [one.number, registration]),
        ("on_unregister", [json.number, registration]),
        ("on_delete", [json.number, registration]),
    ]


def test_an_administrator_takes_a_registration_away(world: World) -> None:
    admin, victim, agent = world.join(), world.join(), world.agent()
    registration = victim.register("com.shared", invoke="roundrobin", disclose_caller=True)
    agent.say(type="register", commands=["com.shared"])
    agent.heard()
    ask(admin, "wamp.registration.remove_callee", [registration, victim.number, "com.reason"])
    assert victim.one() == [UNREGISTERED, 0, {"registration": registration, "reason": "com.reason"}]
    assert refused(admin, "wamp.registration.remove_callee", [registration, victim.number])[0] == "wamp.error.no_such_session"
    assert victim.register("com.shared", invoke="roundrobin") == registration
    json: Any = agent.session
    ask(admin, "wamp.registration.remove_callee", [registration, json.number])
    told = agent.one()
    assert (told["type"], told["commands"]) == ("unregistered", ["com.shared"])
    admin.call("com.shared")
    assert victim.one()[3] == {}, "who calls is told only where the present registration asks for it"
