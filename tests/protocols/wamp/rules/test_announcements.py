"""Nothing is sent that a client did not announce: feature by feature, to clients that announce nothing and all there is.

What cannot be done without it is refused. A request that asks for something itself says that its client knows it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
import pytest_twisted

from nexus_tw.protocols.wamp.features import CLIENT_ROLES
from tests.protocols.wamp.rules.conftest import ABLE, Place, Places
from tests.wamp.peer import (
    CALL,
    ERROR,
    INTERRUPT,
    INVOCATION,
    PUBLISH,
    RESULT,
    ROLES,
    SERIALIZERS,
    UNREGISTERED,
    UNSUBSCRIBED,
    YIELD,
    Peer,
    Refused,
)

NOTHING: Final[dict[str, Any]] = {role: {} for role in CLIENT_ROLES}
ALL: Final = {**ROLES, "callee": {"features": dict.fromkeys(ABLE, True)}}

PPT: Final = {"ppt_scheme": "x_mine", "ppt_serializer": "cbor", "ppt_cipher": "aes", "ppt_keyid": "k1"}
ENC: Final = {"enc_algo": "cryptobox", "enc_serializer": "json", "enc_key": "k1"}
MODES: Final[dict[str, tuple[dict[str, str], Any]]] = {"ppt": (PPT, [b"\x00opaque"]), "enc": (ENC, b"\x00opaque")}


async def join(place: Place, roles: dict[str, Any], serializer: str = "json") -> Peer:
    return await (await place.connect(serializer)).join("nexus", roles=roles)


async def nothing_came(peer: Peer) -> None:
    """The answer to what is asked now is the first that comes."""
    await peer.call("wamp.session.count")
    assert peer._later == []


# Each gets a client that announces nothing or all, and one that announces all.


async def publisher_identification(able: bool, client: Peer, other: Peer) -> None:
    await client.subscribe("com.topic")
    await other.publish("com.topic", disclose_me=True)
    who = {"publisher": other.session, "publisher_authid": "admin", "publisher_authrole": "admin"}
    assert (await client.event()).details == (who if able else {})


async def subscription_revocation(able: bool, client: Peer, other: Peer) -> None:
    number = await client.subscribe("com.topic")
    await other.call("wamp.subscription.remove_subscriber", [number, client.session])
    if able:
        assert (await client.expect(UNSUBSCRIBED))[0] == 0
    await nothing_came(client)
    assert (await other.call("wamp.subscription.lookup", ["com.topic"])).args == [None]


async def registration_revocation(able: bool, client: Peer, other: Peer) -> None:
    number = await client.register("com.procedure")
    await other.call("wamp.registration.remove_callee", [number, client.session])
    if able:
        assert (await client.expect(UNREGISTERED))[0] == 0
    await nothing_came(client)
    assert (await other.call("wamp.registration.lookup", ["com.procedure"])).args == [None]


async def progressive_call_results(able: bool, client: Peer, other: Peer) -> None:
    await client.register("com.procedure")
    request = other.begin("com.procedure", receive_progress=True)
    invocation = await client.invocation()
    assert invocation.details == ({"receive_progress": True} if able else {})
    client.give(invocation, ["end"])
    assert (await other.outcome(request)).args == ["end"]


async def progressive_call_invocations(able: bool, client: Peer, other: Peer) -> None:
    await client.register("com.procedure")
    request = other.begin("com.procedure", progress=True)
    if able:
        assert (await client.invocation()).details == {"progress": True}
    else:
        with pytest.raises(Refused, match="feature_not_supported"):
            await other.outcome(request)
        await nothing_came(client)


async def call_canceling(able: bool, client: Peer, other: Peer) -> None:
    await client.register("com.procedure")
    for mode in ("kill", "killnowait", "skip"):
        request = other.begin("com.procedure")
        invocation = await client.invocation()
        other.cancel(request, mode)
        if able and mode != "skip":
            number, options = await client.expect(INTERRUPT)
            assert (number, options["mode"]) == (invocation.request, mode)
        if able and mode == "kill":
            client.fail(invocation, "wamp.error.canceled")
        with pytest.raises(Refused, match="canceled"):
            await other.outcome(request)
        await nothing_came(client)


async def call_timeout(able: bool, client: Peer, other: Peer) -> None:
    await client.register("com.procedure")
    request = other.begin("com.procedure", timeout=20)
    assert (await client.invocation()).details == {}
    with pytest.raises(Refused, match="timeout"):
        await other.outcome(request)
    if able:
        assert (await client.expect(INTERRUPT))[1]["reason"] == "wamp.error.timeout"
    await nothing_came(client)


async def caller_identification(able: bool, client: Peer, other: Peer) -> None:
    await client.register("com.procedure")
    other.begin("com.procedure", disclose_me=True)
    who = {"caller": other.session, "caller_authid": "admin", "caller_authrole": "admin"}
    assert (await client.invocation()).details == (who if able else {})


async def caller_identification_that_is_asked_for(_able: bool, client: Peer, other: Peer) -> None:
    await client.register("com.procedure", disclose_caller=True)
    other.begin("com.procedure")
    assert (await client.invocation()).details["caller"] == other.session


async def patterns_that_are_asked_for(_able: bool, client: Peer, other: Peer) -> None:
    await client.subscribe("com.", match="prefix")
    await other.publish("com.topic")
    assert (await client.event()).details == {"topic": "com.topic"}
    await client.register("com.", match="prefix")
    other.begin("com.procedure")
    assert (await client.invocation()).details == {"procedure": "com.procedure"}


async def progress_that_is_asked_for(_able: bool, client: Peer, other: Peer) -> None:
    await other.register("com.procedure")
    for asked in (True, False):
        request = client.begin("com.procedure", receive_progress=asked)
        invocation = await other.invocation()
        other.give(invocation, [1], progress=True)
        other.give(invocation, [2])
        assert (await client.outcome(request)).progress == ([([1], {})] if asked else [])


FEATURES: Final[list[Callable[[bool, Peer, Peer], Awaitable[None]]]] = [
    publisher_identification,
    subscription_revocation,
    registration_revocation,
    progressive_call_results,
    progressive_call_invocations,
    call_canceling,
    call_timeout,
    caller_identification,
    caller_identification_that_is_asked_for,
    patterns_that_are_asked_for,
    progress_that_is_asked_for,
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("able", [False, True], ids=["nothing", "all"])
@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.__name__)
async def test_nothing_is_sent_that_a_client_did_not_announce(feature: Any, able: bool, places: Places) -> None:
    place = await places()
    await feature(able, await join(place, ALL if able else NOTHING), await join(place, ALL))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("serializer", SERIALIZERS)
@pytest.mark.parametrize("able", [False, True], ids=["nothing", "all"])
@pytest.mark.parametrize("mode", MODES)
async def test_encrypted_payloads_go_only_to_those_who_announced_their_mode(
    mode: str, able: bool, serializer: str, places: Places
) -> None:
    """Payload passthru, and Autobahn's payload transparency: on EVENT, INVOCATION, RESULT and ERROR."""
    options, payload = MODES[mode]
    place = await places()
    client, other = await join(place, ALL if able else NOTHING, serializer), await join(place, ALL, "cbor")
    # EVENT
    await client.subscribe("com.topic")
    other.send(PUBLISH, 901, options, "com.topic", payload)
    await other.publish("com.topic", ["end"])
    if able:
        event = await client.receive()
        assert event[3:] == [options, payload]
    assert (await client.event()).args == ["end"]
    # INVOCATION
    await client.register("com.procedure")
    other.send(CALL, 902, options, "com.procedure", payload)
    if able:
        invocation = await client.expect(INVOCATION)
        assert invocation[2:] == [options, payload]
        client.send(YIELD, invocation[0], options, payload)
        assert await other.expect(RESULT) == [902, options, payload]
    else:
        assert (await other.expect(ERROR))[3] == "wamp.error.feature_not_supported"
    # RESULT, with progress and without, and ERROR
    await other.register("com.answers")
    answers: list[tuple[list[Any], list[Any]]] = [
        ([YIELD, {**options, "progress": True}], [RESULT, {**options, "progress": True}]),
        ([YIELD, options], [RESULT, options]),
        ([ERROR, INVOCATION, options, "com.error"], [ERROR, options]),
    ]
    for answer, told in answers:
        request = client.begin("com.answers", receive_progress=True)
        number = (await other.invocation()).request
        place_of_id = 2 if answer[0] == ERROR else 1
        other.send(*answer[:place_of_id], number, *answer[place_of_id:], payload)
        message = await client.receive()
        if not able:
            assert (message[:3], message[4]) == ([ERROR, CALL, request], "wamp.error.feature_not_supported")
        else:
            assert (message[0], message[-1]) == (told[0], payload)
            assert told[1] in message
        if answer[0] == YIELD and "progress" in answer[1]:
            if able:
                other.send(YIELD, number, {})
                await client.expect(RESULT)
            else:
                await other.expect(INTERRUPT)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["PUBLISH", "CALL", "YIELD", "ERROR"])
async def test_a_mode_that_is_used_but_was_not_announced_is_a_violation(kind: str, mode: str, places: Places) -> None:
    options, payload = MODES[mode]
    place = await places()
    client = await join(place, NOTHING)
    messages: dict[str, tuple[Any, ...]] = {
        "PUBLISH": (PUBLISH, 1, options, "com.topic", payload),
        "CALL": (CALL, 1, options, "com.procedure", payload),
        "YIELD": (YIELD, 1, options, payload),
        "ERROR": (ERROR, INVOCATION, 1, options, "com.error", payload),
    }
    client.send(*messages[kind])
    assert (await client.ended()).code == 1002
    _, details, reason = await client.receive()
    assert reason == "wamp.error.protocol_violation"
    assert "was not announced" in details["message"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("mode", MODES)
async def test_an_encrypted_payload_is_not_for_json_clients_nor_for_the_server(mode: str, places: Places) -> None:
    options, payload = MODES[mode]
    place = await places()
    json, peer = await place.node.client(), await join(place, ALL)
    await json.ask(type="subscribe", events=["com.topic"])
    await json.ask(type="register", commands=["com.command"])
    for name in ("com.command", "wamp.session.count"):
        peer.send(CALL, 1, options, name, payload)
        assert (await peer.expect(ERROR))[3] == "wamp.error.feature_not_supported"
    peer.send(PUBLISH, 2, {**options, "acknowledge": True}, "com.topic", payload)
    await peer.receive()
    await peer.publish("com.topic", [{"plain": True}])
    assert (await json.expect("event"))["data"] == {"plain": True}
    await peer.register("com.wamp")
    json.send(type="command", command="com.wamp", parameters={})
    invocation = await peer.invocation()
    peer.send(YIELD, invocation.request, options, payload)
    assert "encrypted" in (await json.expect("error"))["message"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("serializer", SERIALIZERS)
@pytest.mark.parametrize("payload", [[["a list"]], [5], [None], [b"x", {}], []], ids=repr)
async def test_what_is_said_to_be_transparent_but_is_not_one_value_fails_alone(
    payload: list[Any], serializer: str, places: Places
) -> None:
    peer = await join(await places(), ALL, serializer)
    peer.send(CALL, 1, ENC, "com.procedure", *payload)
    error = await peer.expect(ERROR)
    assert (error[:2], error[3]) == ([CALL, 1], "wamp.error.invalid_argument")


@pytest_twisted.ensureDeferred
async def test_a_testament_may_be_in_passthru_mode(places: Places) -> None:
    place = await places()
    hearer, leaver = await join(place, ALL), await join(place, ALL)
    await hearer.subscribe("com.left")
    await leaver.call("wamp.session.add_testament", ["com.left", [b"\x01"]], {"publish_options": PPT})
    with pytest.raises(Refused, match="invalid_argument"):
        await leaver.call("wamp.session.add_testament", ["com.left", [b"\x01"]], {"publish_options": ENC})
    leaver.drop()
    event = await hearer.event()
    assert (event.details, event.args) == (PPT, [b"\x01"])
