"""Realms and the two dialects over real sockets: what meets, what never does, and who may."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.model.settings import Limits, Realm, Role, Settings
from tests.node import clock, until, with_roles
from tests.protocols.wamp.rules.conftest import Places
from tests.wamp.peer import EVENT, INVOCATION, SERIALIZERS, Peer, Refused

EVERYTHING = Role(subscribe=("**",), publish=("**",), call=("**",), register=("**",), realms=("*",))
TWO = Settings(realms={"one": Realm(), "two": Realm()})


# --- realms


@pytest_twisted.ensureDeferred
async def test_what_happens_in_one_realm_is_not_seen_in_another(places: Places) -> None:
    place = await places(TWO)
    peers = [await place.join(name) for name in ("nexus", "one", "two")]
    for peer in peers:
        await peer.subscribe("com.", match="prefix")
        await peer.register("com.procedure")
        assert (await peer.call("wamp.session.list")).args == [[peer.session]]
    for peer in peers:
        await peer.publish("com.topic", [peer.session], exclude_me=False)
        peer.begin("com.procedure", [peer.session])
    for peer in peers:
        heard = [await peer.receive(), await peer.receive()]
        assert {message[0]: message[4] for message in heard} == {EVENT: [peer.session], INVOCATION: [peer.session]}
        assert (await peer.call("wamp.session.count")).args == [1]
        assert peer._later == []


@pytest_twisted.ensureDeferred
async def test_a_role_joins_its_realms_only(places: Places) -> None:
    settings = with_roles(guest=Role(realms=("one",)), all=EVERYTHING)
    settings = Settings(roles=settings.roles, auth=settings.auth, realms=TWO.realms)
    place = await places(settings)
    assert (await place.join("one", token="guest-token")).welcome["authrole"] == "guest"
    for realm in ("nexus", "two"):
        with pytest.raises(Refused, match="authorization_denied"):
            await place.join(realm, token="guest-token")
        await place.join(realm, token="all-token")
    with pytest.raises(Refused, match="no_such_realm"):
        await place.join("three", token="all-token")


# --- authorizers


def allow_mine(question: Any) -> Any:
    """Imported by its name, as one of a user's own."""
    answer: Deferred[bool] = Deferred()
    clock.callLater(0, answer.callback, question.uri.startswith("mine.") and question.match != "wildcard")
    return answer


async def tried(peer: Peer, uri: str) -> list[str]:
    """Return the actions that are allowed on that URI; all others are refused with the right error."""
    wishes: dict[str, Callable[[], Awaitable[object]]] = {
        "register": lambda: peer.register(uri),
        "subscribe": lambda: peer.subscribe(uri),
        "publish": lambda: peer.publish(uri),
        "call": lambda: peer.call(uri, timeout=1),
    }
    refusals = {}
    for action, wish in wishes.items():
        try:
            await wish()
        except Refused as refused:
            refusals[action] = refused.uri
    assert refusals.pop("call") == ("wamp.error.timeout" if not refusals else "wamp.error.not_authorized")
    assert set(refusals.values()) <= {"wamp.error.not_authorized"}
    return [action for action in wishes if action not in refusals and action != "call"]


@pytest_twisted.ensureDeferred
async def test_a_function_says_who_may(places: Places) -> None:
    roles = with_roles(guest=Role(realms=("one",)))
    realm = Realm(authorizer="tests.protocols.wamp.rules.test_realms:allow_mine")
    place = await places(Settings(roles=roles.roles, auth=roles.auth, realms={"one": realm}))
    peer = await place.join("one", token="guest-token")
    assert await tried(peer, "mine.x") == ["register", "subscribe", "publish"]
    assert await tried(peer, "yours.x") == []
    await peer.subscribe("mine.", match="prefix")
    with pytest.raises(Refused, match="not_authorized"):
        await peer.subscribe("mine.", match="wildcard")
    with pytest.raises(Refused, match="not_authorized"):
        await peer.call("wamp.session.count")


@pytest_twisted.ensureDeferred
async def test_a_procedure_of_the_realm_says_who_may(places: Places) -> None:
    roles = with_roles(guest=Role(realms=("one",)), judge=Role(realms=("one",), register=("com.judge",)))
    realm = Realm(authorizer="procedure:com.judge", disclose=True)
    place = await places(Settings(roles=roles.roles, auth=roles.auth, realms={"one": realm}))
    peer = await place.join("one", token="guest-token")
    with pytest.raises(Refused) as refused:  # there is nobody to ask
        await peer.subscribe("com.topic")
    assert refused.value.kwargs == {"code": "internal", "retryable": True}
    judge = await place.join("one", token="judge-token", serializer="cbor")
    await judge.register("com.judge")
    for uri, answer, allowed in [
        ("com.yes", True, True),
        ("com.map", {"allow": True}, True),
        ("com.no", False, False),
        ("com.one", 1, False),
        ("com.nothing", None, False),
        ("com.no_map", {"allow": False}, False),
    ]:
        request = peer._next()
        peer.send(32, request, {"match": "prefix"}, uri)
        asked = await judge.invocation()
        who = {"realm": "one", "authid": "guest", "authrole": "guest"}
        assert (asked.args, asked.details) == ([who, uri, "subscribe", {"match": "prefix"}], {})
        judge.give(asked, [answer])
        told = await peer.receive()
        assert (told[0] == 33) is allowed, (uri, told)


# --- one core


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("serializer", SERIALIZERS)
async def test_events_cross_between_the_dialects_in_the_shape_of_the_other(serializer: str, places: Places) -> None:
    place = await places()
    client, peer = await place.node.client(), await place.join(serializer=serializer)
    await client.subscribe("com.from_wamp")
    await peer.subscribe("com.from_json")
    for data, payload in [
        ({"a": [1, None]}, ([], {"a": [1, None]})),
        ({}, ([], {})),
        (5, ([5], {})),
        ("x", (["x"], {})),
        (None, ([None], {})),
        ([1, 2], ([[1, 2]], {})),
    ]:
        client.send(type="publish", eventType="com.from_json", data=data)
        event = await peer.event()
        assert (event.args, event.kwargs) == payload
    sent: list[tuple[list[Any], dict[str, Any], Any]] = [
        ([], {"a": 1}, {"a": 1}),
        ([5], {}, 5),
        ([{"a": 1}], {}, {"a": 1}),
        ([None], {}, None),
        ([1, 2], {}, {"args": [1, 2], "kwargs": {}}),
        ([], {}, {"args": [], "kwargs": {}}),
        ([1], {"a": 1}, {"args": [1], "kwargs": {"a": 1}}),
    ]
    for args, kwargs, told in sent:
        await peer.publish("com.from_wamp", args, kwargs)
        event_message = await client.receive()
        while event_message["type"] != "event":
            event_message = await client.receive()
        assert event_message["data"] == told


@pytest_twisted.ensureDeferred
async def test_telemetry_presence_and_commands_are_the_same_for_both(places: Places) -> None:
    place = await places()
    watcher, peer, client = await place.join(), await place.join(serializer="msgpack"), await place.node.client()
    await watcher.subscribe("agent.status")
    await watcher.subscribe("telemetry.received")
    await watcher.subscribe("task.updated")
    await peer.call("nexus.telemetry.submit", ["eu.agent-1", {"cpu": 1.5}])
    assert (await watcher.event()).kwargs["status"] == "online"
    assert (await watcher.event()).kwargs["metrics"] == {"cpu": 1.5}
    await peer.register("restart", _agent="eu.agent-1")
    client.send(type="command", command="restart", target="eu.agent-1", parameters={"now": True})
    invocation = await peer.invocation()
    assert invocation.kwargs == {"now": True}
    peer.give(invocation, [], {"done": True})
    assert (await client.expect("command_result"))["data"]["result"] == {"done": True}
    states = [(await watcher.event()).kwargs["status"] for _ in range(2)]
    assert states == ["sent", "completed"]
    request = watcher.begin("nexus.agent.eu%2Eagent-1.restart")
    peer.give(await peer.invocation(), ["called"])
    assert (await watcher.outcome(request)).args == ["called"]
    await peer.leave()
    assert (await watcher.event()).kwargs["status"] == "offline"


@pytest_twisted.ensureDeferred
async def test_a_broadcast_reaches_wamp_clients_as_an_event_and_each_client_once(places: Places) -> None:
    place = await places(TWO)
    exact, pattern, outside = await place.join(), await place.join(serializer="cbor"), await place.join("one")
    client, listening = await place.node.client(), await place.node.client()
    await exact.subscribe("nexus.broadcast")
    await pattern.subscribe("nexus.", match="prefix")
    await outside.subscribe("nexus.broadcast")
    await listening.subscribe("**")
    body = json.dumps({"data": {"text": "hello"}}).encode()
    answer = await place.node.http("POST", "/api/v1/broadcast", body=body)
    assert (answer.status, answer.json) == (200, {"recipients": 4})
    for peer in (exact, pattern):
        assert (await peer.event()).kwargs == {"text": "hello"}
    for one in (client, listening):
        assert (await one.expect("broadcast"))["data"] == {"text": "hello"}
        assert await one.heard() == []
    await outside.call("wamp.session.count")
    assert outside._later == []


@pytest_twisted.ensureDeferred
async def test_a_gap_is_told_to_wamp_clients_who_ask_for_it(places: Places) -> None:
    bus = MemoryBus(MemoryBroker(clock), "node-0")
    place = await places(bus=bus)
    peer = await place.join()
    await peer.subscribe("nexus.continuity")
    await peer.subscribe("task.", match="prefix")
    place.node.lose(bus)
    with pytest.raises(Refused) as refused:
        await peer.publish("task.x")
    assert (refused.value.uri, refused.value.kwargs["code"]) == ("wamp.error.unavailable", "bus_unavailable")
    place.node.restore(bus)
    told = [(await peer.event()).kwargs for _ in range(2)]
    assert {"eventType": "task.**", "recovered": False} in told


@pytest_twisted.ensureDeferred
async def test_sessions_come_and_go_and_nothing_is_left(places: Places) -> None:
    place = await places(Settings(limits=Limits(pending=8)))
    callee = await place.join()
    await callee.register("com.slow")
    for _ in range(10):
        peers = [await place.join(serializer=name) for name in SERIALIZERS for _ in range(3)]
        for peer in peers:
            await peer.subscribe("com.topic")
            await peer.register(f"com.{peer.session}")
            peer.begin("com.slow")
        for peer in peers:
            peer.drop()
        await until(lambda: len(place.node.server.connections) == 1)
    realm: Any = place.node.server.realms["nexus"]
    assert len(realm._roster) == 1
    assert [registration.pattern.text for registration in realm._registry] == ["com.slow"]
    assert not any(hand.open for hand in realm._invocations._hands.values())
