"""The ends of sessions over real sockets: the last message, then the close code."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred

from nexus_tw.model.settings import Auth, Heartbeat, Jwt, Limits, Realm, Role, Settings
from tests.client import PING, Ended, Wire, frame
from tests.node import TOKEN, Node, small_buffers, until, with_roles
from tests.protocols.wamp.rules.conftest import Places
from tests.wamp.peer import (
    ABORT,
    CALL,
    ERROR,
    GOODBYE,
    HELLO,
    INVOCATION,
    PUBLISH,
    RESULT,
    ROLES,
    SERIALIZERS,
    SUBSCRIBE,
    SUBSCRIBED,
    WELCOME,
    YIELD,
    Refused,
)

VIOLATION = "wamp.error.protocol_violation"
LARGEST = 15  # of a RawSocket handshake: 16 MiB


async def raw(node: Node, largest: int = LARGEST) -> Wire:
    """A RawSocket with JSON, its handshake done."""
    wire = await node.wire(bytes((0x7F, largest << 4 | 1, 0, 0)))
    assert (await wire.exactly(4))[0] == 0x7F
    return wire


def raw_send(wire: Wire, *message: Any) -> None:
    payload = json.dumps(message).encode()
    wire.write(len(payload).to_bytes(4, "big") + payload)


async def raw_receive(wire: Wire) -> list[Any]:
    size = int.from_bytes(await wire.exactly(4), "big")
    message: list[Any] = json.loads(await wire.exactly(size))
    return message


async def raw_join(wire: Wire) -> None:
    raw_send(wire, HELLO, "open", {"roles": ROLES})
    assert (await raw_receive(wire))[0] == WELCOME


OPEN = Settings(realms={"open": Realm(anonymous="admin")})


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("serializer", SERIALIZERS)
@pytest.mark.parametrize("garbage", [b"", b"\x00", b"[", b"{}", b"[99]", b"[16]", b'["16",1,{},"a"]', b"\x7f\x7f", b"\x1f["])
async def test_garbage_is_abort_and_1002_and_nobody_else_notices(garbage: bytes, serializer: str, places: Places) -> None:
    place = await places()
    other = await place.join(serializer=serializer)
    await other.subscribe("com.topic")
    peer = await place.join(serializer=serializer)
    peer.write(garbage)
    ended = await peer.ended()
    assert (ended.code, ended.reason) == (1002, "Protocol violation")
    code, details, uri = await peer.receive()
    assert (code, uri) == (ABORT, VIOLATION)
    assert details["message"]
    await (await place.join()).publish("com.topic", ["still there"])
    assert (await other.event()).args == ["still there"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("serializer", SERIALIZERS)
async def test_the_wrong_kind_of_frame_is_a_violation(serializer: str, places: Places) -> None:
    place = await places()
    peer = await place.join(serializer=serializer)
    chosen = SERIALIZERS[serializer]
    peer._client.write(frame(3 - chosen.opcode, b"[6,{},\"wamp.close.normal\"]"))
    assert (await peer.ended()).code == 1002
    assert (await peer.receive())[2] == VIOLATION


@pytest_twisted.ensureDeferred
async def test_over_rawsocket_the_last_message_says_why_and_the_stream_ends(places: Places) -> None:
    place = await places(OPEN)
    cases: list[Callable[[Wire], None]] = [
        lambda wire: wire.write((3).to_bytes(4, "big") + b"[9]"),
        lambda wire: raw_send(wire, HELLO, "open", {"roles": ROLES}),
    ]
    for send in cases:
        wire = await raw(place.node)
        await raw_join(wire)
        send(wire)
        told = await raw_receive(wire)
        assert (told[0], told[2]) == (ABORT, VIOLATION)
        assert await wire.rest() == b""


@pytest_twisted.ensureDeferred
async def test_goodbye_is_answered_and_the_client_has_time_to_read_that_and_to_close(places: Places) -> None:
    place = await places()
    peer = await place.join()
    await peer.subscribe("com.topic")
    other = await place.join()
    other.tell("com.topic", ["early"])
    peer.send(GOODBYE, {}, "wamp.close.close_realm")
    peer.send(PUBLISH, 99, {"acknowledge": True}, "com.topic", ["too late"])
    await other.publish("com.topic", ["nobody is there"])
    peer._client.write(frame(PING, b"are you there"))
    await until(lambda: place.node.metrics.messages_received == 7)
    assert len(place.node.server.connections) == 2
    peer._client.leave()
    ended = await peer.ended()
    assert (ended.code, ended.reason) == (1000, "")
    heard = [message for message in peer._later if message[0] != 36]
    assert heard == [[GOODBYE, {}, "wamp.close.goodbye_and_out"]]
    assert peer._later[-1] == heard[0]
    assert peer._client.pongs == [b"are you there"], "until then it is a connection as any other"
    await until(lambda: place.node.metrics.connections_closed == {1000: 1})


@pytest_twisted.ensureDeferred
async def test_goodbye_over_rawsocket_is_answered_and_the_client_closes(places: Places) -> None:
    place = await places(OPEN)
    wire = await raw(place.node)
    await raw_join(wire)
    raw_send(wire, GOODBYE, {}, "wamp.close.normal")
    assert await raw_receive(wire) == [GOODBYE, {}, "wamp.close.goodbye_and_out"]
    wire.write(b"\1\0\0\2up")
    assert await wire.exactly(6) == b"\2\0\0\2up"
    wire.transport.loseConnection()
    assert await wire.rest() == b""
    await until(lambda: place.node.metrics.connections_closed == {1000: 1})


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_drained_waits_for_nobody_who_is_leaving(places: Places) -> None:
    place = await places()
    peer = await place.join()
    peer.send(GOODBYE, {}, "wamp.close.normal")
    assert (await peer.receive())[0] == GOODBYE
    drained = ensureDeferred(place.node.server.drain())
    ended = await peer.ended()
    assert (ended.code, ended.reason) == (1000, "Server shutting down")
    assert peer._later == [], "it has had its goodbye"
    await drained


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_drained_says_so_in_both_dialects(places: Places) -> None:
    place = await places()
    peer, json_client = await place.join(serializer="cbor"), await place.node.client()
    drained = ensureDeferred(place.node.server.drain())
    ended = await peer.ended()
    assert (ended.code, ended.reason) == (1000, "Server shutting down")
    assert peer._later == [], "a WAMP client that is told GOODBYE would not come back"
    assert (await json_client.closed()) == (1000, "Server shutting down")
    await drained


@pytest_twisted.ensureDeferred
async def test_who_says_nothing_of_himself_is_aborted(places: Places) -> None:
    place = await places(Settings(limits=Limits(auth=0.2), heartbeat=Heartbeat(interval=0.2)))
    peer = await place.connect(token=None)
    ended = await peer.ended()
    assert (ended.code, ended.reason) == (1008, "Unauthorized")
    assert await peer.receive() == [ABORT, {"message": "Unauthorized"}, "wamp.error.authentication_failed"]


@pytest_twisted.ensureDeferred
async def test_a_wrong_token_is_abort_and_1008(places: Places) -> None:
    place = await places()
    peer = await place.connect(token="wrong")
    ended = await peer.ended()
    assert (ended.code, ended.reason) == (1008, "Unauthorized")
    assert await peer.receive() == [ABORT, {"message": "Unauthorized"}, "wamp.error.authentication_failed"]
    peer = await place.connect(token=None)
    with pytest.raises(Refused, match="authentication_failed"):
        await peer.join("nexus", "wrong")
    assert (await peer.ended()).code == 1008


@pytest_twisted.ensureDeferred
async def test_a_subject_with_too_many_connections_may_come_again_later(places: Places) -> None:
    settings = Settings(limits=Limits(connections_per_subject=1))
    place = await places(settings)
    first = await (await place.connect(token=None)).join("nexus", TOKEN)
    second = await place.connect(token=None)
    with pytest.raises(Ended) as caught:
        await second.join("nexus", TOKEN)
    assert caught.value.code == 1006
    assert place.node.metrics.connections_closed == {1013: 1}
    await first.publish("com.topic")


@pytest_twisted.ensureDeferred
async def test_when_a_token_expires_the_session_ends(places: Places) -> None:
    secret = "0123456789abcdef0123456789abcdef"
    issuer = Jwt("me", "nexus", ("HS256",), secret=secret)
    role = Role(subscribe=("**",))
    place = await places(
        Settings(auth=Auth(jwt=(issuer,)), roles={"guest": role}, heartbeat=Heartbeat(interval=0.2)), token=None
    )
    claims = {"iss": "me", "aud": "nexus", "sub": "somebody", "role": "guest", "exp": time.time() + 1}
    token = jwt.encode(claims, secret, "HS256")
    at_upgrade = await place.join(token=token)
    by_ticket = await (await place.connect(token=None)).join("nexus", token, authid="somebody")
    for peer in (at_upgrade, by_ticket):
        ended = await peer.ended()
        assert (ended.code, ended.reason) == (4500, "Token expired")
        assert await peer.receive() == [GOODBYE, {"message": "Token expired"}, "wamp.close.normal"]


@pytest_twisted.ensureDeferred
async def test_who_does_not_read_is_closed_and_nobody_waits_for_him(places: Places) -> None:
    place = await places(Settings(limits=Limits(send_queue=65536, message=65536)))
    slow, quick, publisher = await place.join(), await place.join(), await place.join()
    await slow.subscribe("com.topic")
    await quick.subscribe("com.topic")
    wire = slow._client.wire
    small_buffers(wire, place.node.transports()[0])
    wire.transport.pauseProducing()
    for number in range(40):
        await publisher.publish("com.topic", [number, "x" * 60000])
        assert (await quick.event()).args[0] == number
    wire.transport.resumeProducing()
    ended = await slow.ended()
    assert (ended.code, ended.reason) == (4001, "Slow consumer")
    events = slow._later
    assert [event[4][0] for event in events] == list(range(len(events)))
    assert len(events) < 40


@pytest_twisted.ensureDeferred
async def test_what_is_too_long_for_a_rawsocket_client_is_told_to_who_waits_for_it(places: Places) -> None:
    place = await places(OPEN)
    wire = await raw(place.node, largest=2)  # 2,048 bytes
    await raw_join(wire)
    raw_send(wire, 64, 1, {}, "com.small")
    assert (await raw_receive(wire))[0] == 65
    raw_send(wire, SUBSCRIBE, 2, {}, "com.topic")
    assert (await raw_receive(wire))[0] == SUBSCRIBED
    peer = await (await place.connect(token=None)).join("open")
    with pytest.raises(Refused, match="payload_size_exceeded"):
        await peer.call("com.small", ["x" * 4000])
    await peer.publish("com.topic", ["x" * 4000])
    await peer.publish("com.topic", ["short"])
    assert (await raw_receive(wire))[4] == ["short"]
    request = peer.begin("com.small", ["short"])
    invocation = await raw_receive(wire)
    assert (invocation[0], invocation[4]) == (INVOCATION, ["short"])
    raw_send(wire, YIELD, invocation[1], {}, ["result"])
    assert (await peer.outcome(request)).args == ["result"]
    await peer.register("com.large")
    raw_send(wire, CALL, 3, {}, "com.large")
    peer.give(await peer.invocation(), ["x" * 4000])
    assert (await raw_receive(wire))[:5] == [ERROR, CALL, 3, {}, "wamp.error.payload_size_exceeded"]
    raw_send(wire, CALL, 4, {}, "com.large")
    peer.give(await peer.invocation(), ["short"])
    assert await raw_receive(wire) == [RESULT, 4, {}, ["short"]]


@pytest_twisted.ensureDeferred
async def test_above_the_rate_a_client_is_read_more_slowly_and_loses_nothing(places: Places) -> None:
    place = await places(Settings(limits=Limits(rate=200)))
    peer, hearer = await place.join(), await place.join()
    await hearer.subscribe("com.topic")
    for number in range(300):
        peer.tell("com.topic", [number])
    assert [(await hearer.event()).args[0] for _ in range(300)] == list(range(300))
    assert place.node.metrics.reads_paused


@pytest_twisted.ensureDeferred
async def test_a_message_longer_than_the_limit_is_1009(places: Places) -> None:
    place = await places(Settings(limits=Limits(message=4096)))
    peer = await place.join()
    peer.tell("com.topic", ["x" * 5000])
    assert (await peer.ended()).code == 1009


@pytest_twisted.ensureDeferred
async def test_a_role_that_may_not_join_is_told_so(places: Places) -> None:
    settings = with_roles(stranger=Role(realms=("elsewhere",)))
    place = await places(settings)
    peer = await place.connect(token="stranger-token")
    with pytest.raises(Refused, match="authorization_denied"):
        await peer.join("nexus")
    with pytest.raises(Ended):
        await peer.receive()


