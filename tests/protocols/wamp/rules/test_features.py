"""Each feature that WELCOME announces has a test here that bears its name; all over real sockets."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import pytest_twisted

from nexus_tw.model.settings import Limits, Realm, Role, Settings
from nexus_tw.protocols.wamp.features import ROLES, roles
from tests.node import with_roles
from tests.protocols.wamp.rules.conftest import Places
from tests.wamp.peer import (
    CALL,
    ERROR,
    EVENT,
    INTERRUPT,
    INVOCATION,
    PUBLISH,
    RESULT,
    SERIALIZERS,
    UNREGISTERED,
    UNSUBSCRIBED,
    YIELD,
    Refused,
)

MEMBER = Role(subscribe=("**",), publish=("**",), call=("**",), register=("**",))
SECRET: dict[str, Any] = {"ppt_scheme": "x_mine", "ppt_serializer": "cbor", "ppt_cipher": "aes", "ppt_keyid": "k1"}

BOXED: dict[str, Any] = {"enc_algo": "cryptobox", "enc_serializer": "json"}


@pytest.mark.parametrize("role", ROLES)
def test_what_is_announced_is_tested(role: str) -> None:
    for feature in roles(remembers=True, retains=True)[role]["features"]:
        assert f"test_{role}_{feature}" in globals()


@pytest_twisted.ensureDeferred
async def test_welcome_announces_them(places: Places) -> None:
    peer = await (await places()).join()
    assert peer.welcome["roles"] == roles(remembers=True, retains=True)


# --- broker


@pytest_twisted.ensureDeferred
async def test_broker_subscriber_blackwhite_listing(places: Places) -> None:
    place = await places(with_roles(red=MEMBER, blue=MEMBER))
    publisher = await place.join()
    hearers = {name: await place.join(token=f"{name}-token") for name in ("red", "blue")}
    sessions = {name: hearer.session for name, hearer in hearers.items()}
    for hearer in hearers.values():
        await hearer.subscribe("com.topic")
    red, blue = {"red"}, {"blue"}
    cases: list[tuple[dict[str, Any], set[str]]] = [
        ({}, red | blue),
        ({"exclude": [sessions["red"]]}, blue),
        ({"exclude_authid": ["red"]}, blue),
        ({"exclude_authrole": ["red", "x"]}, blue),
        ({"eligible": [sessions["red"]]}, red),
        ({"eligible_authid": ["red"]}, red),
        ({"eligible_authrole": ["red"]}, red),
        ({"eligible": []}, set()),
        ({"eligible_authid": []}, set()),
        ({"eligible_authrole": []}, set()),
        ({"eligible": [sessions["red"]], "eligible_authid": ["blue"]}, set()),
        ({"eligible": list(sessions.values()), "eligible_authrole": ["blue"]}, blue),
        ({"eligible_authid": ["red", "blue"], "exclude_authid": ["blue"]}, red),
        ({"exclude": None, "eligible": None}, red | blue),
    ]
    for options, meant in cases:
        publication = await publisher.publish("com.topic", [1], **options)
        end = await publisher.publish("com.topic", ["end"])
        for name, hearer in hearers.items():
            if name in meant:
                assert (await hearer.event()).publication == publication, (options, name)
            assert (await hearer.event()).publication == end, (options, name)


@pytest_twisted.ensureDeferred
async def test_broker_publisher_exclusion(places: Places) -> None:
    peer = await (await places()).join()
    await peer.subscribe("com.topic")
    await peer.publish("com.topic", ["without"])
    await peer.publish("com.topic", ["also without"], exclude_me=True)
    with_it = await peer.publish("com.topic", ["with"], exclude_me=False)
    event = await peer.event()
    assert (event.publication, event.args) == (with_it, ["with"])


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("always", [False, True])
async def test_broker_publisher_identification(always: bool, places: Places) -> None:
    place = await places(Settings(realms={"nexus": Realm(disclose=always)}))
    publisher, hearer = await place.join(), await place.join(serializer="cbor")
    await hearer.subscribe("com.topic")
    who = {"publisher": publisher.session, "publisher_authid": "admin", "publisher_authrole": "admin"}
    for asked in (True, False):
        await publisher.publish("com.topic", [1], disclose_me=asked)
        assert (await hearer.event()).details == (who if asked or always else {})


@pytest_twisted.ensureDeferred
async def test_broker_pattern_based_subscription(places: Places) -> None:
    place = await places()
    publisher, hearer = await place.join(), await place.join()
    numbers = {
        await hearer.subscribe("com.a.topic"): {},
        await hearer.subscribe("com.a", match="prefix"): {"topic": "com.a.topic"},
        await hearer.subscribe("com.a.", match="prefix"): {"topic": "com.a.topic"},
        await hearer.subscribe("", match="prefix"): {"topic": "com.a.topic"},
        await hearer.subscribe("com..topic", match="wildcard"): {"topic": "com.a.topic"},
        await hearer.subscribe("com.a.topic", match="wildcard"): {"topic": "com.a.topic"},
    }
    assert len(numbers) == 6
    await hearer.subscribe("com.a.t.", match="prefix")
    await hearer.subscribe("com..", match="wildcard")
    await hearer.subscribe("com.", match="wildcard")
    publication = await publisher.publish("com.a.topic", [1])
    heard = [await hearer.event() for _ in range(7)]
    assert {event.publication for event in heard} == {publication}
    assert {event.subscription: event.details for event in heard}.items() >= numbers.items()
    assert max(Counter(event.subscription for event in heard).values()) == 1
    await publisher.publish("com.ab", [2])
    assert {(await hearer.event()).details["topic"] for _ in range(3)} == {"com.ab"}


@pytest_twisted.ensureDeferred
async def test_broker_subscription_revocation(places: Places) -> None:
    place = await places()
    admin, victim = await place.join(), await place.join()
    number = await victim.subscribe("com.topic")
    await admin.call("wamp.subscription.remove_subscriber", [number, victim.session, "com.why"])
    assert await victim.expect(UNSUBSCRIBED) == [0, {"subscription": number, "reason": "com.why"}]


@pytest_twisted.ensureDeferred
async def test_broker_subscription_meta_api(places: Places) -> None:
    place = await places()
    watcher, peer = await place.join(), await place.join()
    await watcher.subscribe("wamp.subscription.on_subscribe")
    number = await peer.subscribe("com.topic")
    assert (await watcher.event()).args == [peer.session, number]
    assert (await peer.call("wamp.subscription.lookup", ["com.topic"])).args == [number]
    assert (await peer.call("wamp.subscription.list_subscribers", [number])).args == [[peer.session]]


@pytest_twisted.ensureDeferred
async def test_broker_event_history(places: Places) -> None:
    place = await places()
    publisher, late = await place.join(), await place.join()
    publication = await publisher.publish("com.topic", ["missed"])
    outcome = await late.call("wamp.subscription.get_events", [await late.subscribe("com.topic")])
    ((told,),) = outcome.args
    assert (told["publication"], told["args"]) == (publication, ["missed"])


@pytest_twisted.ensureDeferred
async def test_broker_event_retention(places: Places) -> None:
    place = await places()
    publisher, late = await place.join(), await place.join()
    publication = await publisher.publish("com.topic", ["the state"], retain=True)
    await late.subscribe("com.topic", get_retained=True)
    event = await late.event()
    assert (event.publication, event.args, event.details["retained"]) == (publication, ["the state"], True)


@pytest_twisted.ensureDeferred
async def test_broker_session_meta_api(places: Places) -> None:
    place = await places()
    watcher = await place.join()
    for topic in ("on_join", "on_leave"):
        await watcher.subscribe(f"wamp.session.{topic}")
    peer = await place.join()
    (joined,) = (await watcher.event()).args
    assert (joined["session"], joined["authid"]) == (peer.session, "admin")
    assert await peer.leave() == "wamp.close.goodbye_and_out"
    assert (await watcher.event()).args == [peer.session, "admin", "admin"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("serializer", SERIALIZERS)
async def test_broker_payload_passthru_mode(serializer: str, places: Places) -> None:
    place = await places()
    publisher, hearer = await place.join(serializer="cbor"), await place.join(serializer=serializer)
    await hearer.subscribe("com.topic")
    await publisher.publish("com.topic", [b"\x00\x01opaque"], **SECRET)
    event = await hearer.event()
    assert (event.details, event.args) == (SECRET, [b"\x00\x01opaque"])


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("serializer", SERIALIZERS)
async def test_broker_payload_transparency(serializer: str, places: Places) -> None:
    place = await places()
    publisher, hearer = await place.join(serializer="json"), await place.join(serializer=serializer)
    await hearer.subscribe("com.topic")
    for payload in (b"\x00\x01opaque", "text"):
        publisher.send(PUBLISH, 1, BOXED, "com.topic", payload)
        assert (await hearer.expect(EVENT))[2:] == [BOXED, payload]


# --- dealer


@pytest_twisted.ensureDeferred
async def test_dealer_progressive_call_results(places: Places) -> None:
    place = await places()
    caller, callee = await place.join(), await place.join(serializer="msgpack")
    await callee.register("com.slow")
    request = caller.begin("com.slow", receive_progress=True)
    invocation = await callee.invocation()
    assert invocation.details == {"receive_progress": True}
    for number in range(3):
        callee.give(invocation, [number], progress=True)
    callee.give(invocation, ["end"])
    outcome = await caller.outcome(request)
    assert (outcome.progress, outcome.args) == ([([0], {}), ([1], {}), ([2], {})], ["end"])


@pytest_twisted.ensureDeferred
async def test_dealer_progressive_call_invocations(places: Places) -> None:
    place = await places()
    caller, callee, simple = await place.join(), await place.join(), await place.join(callee=())
    await callee.register("com.stream")
    await simple.register("com.simple")
    caller.send(CALL, 1, {"progress": True}, "com.stream", ["first"])
    first = await callee.invocation()
    caller.send(CALL, 1, {}, "com.stream", ["last"])
    last = await callee.invocation()
    assert (first.request, first.details, first.args) == (last.request, {"progress": True}, ["first"])
    assert (last.details, last.args) == ({}, ["last"])
    callee.give(last, ["done"])
    assert (await caller.outcome(1)).args == ["done"]
    caller.send(CALL, 2, {"progress": True}, "com.simple", ["first"])
    with pytest.raises(Refused, match="feature_not_supported"):
        await caller.outcome(2)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("mode", ["skip", "kill", "killnowait"])
async def test_dealer_call_canceling(mode: str, places: Places) -> None:
    place = await places()
    caller, callee = await place.join(), await place.join()
    await callee.register("com.slow")
    request = caller.begin("com.slow")
    invocation = await callee.invocation()
    caller.cancel(request, mode)
    if mode != "skip":
        number, options = await callee.expect(INTERRUPT)
        assert (number, options["mode"]) == (invocation.request, mode)
    if mode == "kill":
        callee.fail(invocation, "wamp.error.canceled", ["by the callee"])
    with pytest.raises(Refused, match="canceled") as refused:
        await caller.outcome(request)
    assert refused.value.args_ == ["by the callee" if mode == "kill" else "the call was cancelled"]


@pytest_twisted.ensureDeferred
async def test_dealer_call_timeout(places: Places) -> None:
    place = await places(Settings(limits=Limits(call=0.05)))
    caller, callee = await place.join(), await place.join()
    await callee.register("com.slow")
    given: list[dict[str, Any]] = [{"timeout": 20}, {}]
    for options in given:
        request = caller.begin("com.slow", **options)
        invocation = await callee.invocation()
        assert "timeout" not in invocation.details
        with pytest.raises(Refused, match="timeout"):
            await caller.outcome(request)
        number, told = await callee.expect(INTERRUPT)
        assert (number, told["reason"]) == (invocation.request, "wamp.error.timeout")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("always", [False, True])
async def test_dealer_caller_identification(always: bool, places: Places) -> None:
    place = await places(Settings(realms={"nexus": Realm(disclose=always)}))
    caller, callee = await place.join(), await place.join()
    await callee.register("com.one")
    await callee.register("com.nosy", disclose_caller=True)
    who = {"caller": caller.session, "caller_authid": "admin", "caller_authrole": "admin"}
    for name, asked in (("com.one", True), ("com.one", False), ("com.nosy", False)):
        caller.begin(name, disclose_me=asked)
        told = (await callee.invocation()).details
        assert told == (who if asked or always or name == "com.nosy" else {})


@pytest_twisted.ensureDeferred
async def test_dealer_pattern_based_registration(places: Places) -> None:
    place = await places()
    caller, callee = await place.join(), await place.join()
    names = {}
    for uri, match in [
        ("shop.eu.order.paid.late", "exact"),
        ("shop.eu.order", "prefix"),
        ("shop.eu.order.paid", "prefix"),
        ("shop.eu..paid.now", "wildcard"),
        ("shop.eu..paid.now..x", "wildcard"),
        ("shop.eu..paid..new.x", "wildcard"),
        ("shop...paid.now..x", "wildcard"),
        ("...", "wildcard"),
    ]:
        names[await callee.register(uri, match=match)] = uri
    for name, uri in [
        ("shop.eu.order.paid.late", "shop.eu.order.paid.late"),
        ("shop.eu.order.open.late", "shop.eu.order"),
        ("shop.eu.orders.paid.now", "shop.eu.order"),
        ("shop.eu.order.paid.soon", "shop.eu.order.paid"),
        ("shop.eu.order.paid.late.too", "shop.eu.order.paid"),
        ("shop.eu.bill.paid.now", "shop.eu..paid.now"),
        ("shop.eu.bill.paid.now.new.x", "shop.eu..paid.now..x"),
        ("shop.eu.bill.paid.soon.new.x", "shop.eu..paid..new.x"),
        ("shop.us.bill.paid.now.new.x", "shop...paid.now..x"),
        ("shop.eu.bill.paid", "..."),
    ]:
        caller.begin(name)
        invocation = await callee.invocation()
        assert names[invocation.registration] == uri, name
        assert invocation.details == ({} if name == uri else {"procedure": name})
    with pytest.raises(Refused, match="no_such_procedure"):
        await caller.call("one.two")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("invoke", "order"), [("first", [0, 0, 0, 0]), ("last", [2, 2, 2, 2]), ("roundrobin", [0, 1, 2, 0]), ("random", None)]
)
async def test_dealer_shared_registration(invoke: str, order: list[int] | None, places: Places) -> None:
    place = await places()
    caller = await place.join()
    callees = [await place.join() for _ in range(3)]
    assert len({await callee.register("com.shared", invoke=invoke) for callee in callees}) == 1
    requests = [caller.begin("com.shared") for _ in range(4 if order else 200)]
    await caller.call("wamp.session.count")  # all are with their callees, however many turns that took
    taken: list[int] = []
    for number, callee in enumerate(callees):
        await callee.call("wamp.session.count")  # by whose answer all that was before it has come
        while callee._later:
            callee.give(await callee.invocation(), [number])
    for request in requests:
        taken += (await caller.outcome(request)).args
    if order is not None:
        assert taken == order
    else:
        assert min(Counter(taken)[number] for number in range(3)) > 20
    with pytest.raises(Refused, match="different_invocation_policy"):
        await caller.register("com.shared")


@pytest_twisted.ensureDeferred
async def test_dealer_registration_revocation(places: Places) -> None:
    place = await places()
    admin, victim = await place.join(), await place.join()
    number = await victim.register("com.procedure")
    await admin.call("wamp.registration.remove_callee", [number, victim.session, "com.why"])
    assert await victim.expect(UNREGISTERED) == [0, {"registration": number, "reason": "com.why"}]
    with pytest.raises(Refused, match="no_such_procedure"):
        await admin.call("com.procedure")


@pytest_twisted.ensureDeferred
async def test_dealer_registration_meta_api(places: Places) -> None:
    place = await places()
    watcher, peer = await place.join(), await place.join()
    await watcher.subscribe("wamp.registration.on_register")
    number = await peer.register("com.procedure")
    assert (await watcher.event()).args == [peer.session, number]
    assert (await peer.call("wamp.registration.match", ["com.procedure"])).args == [number]
    assert (await peer.call("wamp.registration.list_callees", [number])).args == [[peer.session]]


@pytest_twisted.ensureDeferred
async def test_dealer_session_meta_api(places: Places) -> None:
    place = await places()
    admin, victim = await place.join(), await place.join(serializer="cbor")
    assert (await admin.call("wamp.session.list")).args == [[admin.session, victim.session]]
    assert (await admin.call("wamp.session.get", [victim.session])).args[0]["authid"] == "admin"
    await admin.call("wamp.session.kill", [victim.session], {"reason": "com.enough"})
    ended = await victim.ended()
    assert (ended.code, ended.reason) == (4502, "Disconnected by administrator")
    assert (await victim.receive())[2] == "com.enough"
    assert (await admin.call("wamp.session.count")).args == [1]


@pytest_twisted.ensureDeferred
async def test_dealer_testament_meta_api(places: Places) -> None:
    place = await places()
    hearer, peer = await place.join(), await place.join()
    await hearer.subscribe("com.left")
    await peer.call("wamp.session.add_testament", ["com.left", ["bye"], {}])
    peer.drop()
    assert (await hearer.event()).args == ["bye"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("serializer", SERIALIZERS)
async def test_dealer_payload_passthru_mode(serializer: str, places: Places) -> None:
    place = await places()
    caller, callee = await place.join(serializer="msgpack"), await place.join(serializer=serializer)
    await callee.register("com.secret")
    request = caller.begin("com.secret", [b"\xffin"], **SECRET)
    invocation = await callee.invocation()
    assert (invocation.details, invocation.args) == (SECRET, [b"\xffin"])
    callee.give(invocation, [b"\xffout"], **SECRET)
    outcome = await caller.outcome(request)
    assert (outcome.details, outcome.args) == (SECRET, [b"\xffout"])


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("serializer", SERIALIZERS)
async def test_dealer_payload_transparency(serializer: str, places: Places) -> None:
    place = await places()
    caller, callee = await place.join(serializer=serializer), await place.join(serializer="json")
    await callee.register("com.secret")
    caller.send(CALL, 1, BOXED, "com.secret", b"\xffin")
    number, _, *rest = await callee.expect(INVOCATION)
    assert rest == [BOXED, b"\xffin"]
    callee.send(YIELD, number, BOXED, b"\xffout")
    assert await caller.expect(RESULT) == [1, BOXED, b"\xffout"]
    caller.send(CALL, 2, BOXED, "com.secret", b"\xffin")
    number = (await callee.expect(INVOCATION))[0]
    callee.send(ERROR, INVOCATION, number, BOXED, "com.error", b"\xffwhy")
    assert await caller.expect(ERROR) == [CALL, 2, BOXED, "com.error", b"\xffwhy"]


@pytest_twisted.ensureDeferred
async def test_acknowledged_publication(places: Places) -> None:
    place = await places()
    publisher, hearer = await place.join(), await place.join()
    await hearer.subscribe("com.topic")
    publication = await publisher.publish("com.topic", [1])
    assert (await hearer.event()).publication == publication
    publisher.tell("com.topic", [2])
    await publisher.publish("com.topic", [3])
    assert publisher._later == []
    assert [(await hearer.event()).args for _ in range(2)] == [[2], [3]]
    hearer.drop()
    assert EVENT not in [message[0] for message in publisher._later]
