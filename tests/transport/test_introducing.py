"""Clients that show nothing of themselves at first, over real sockets: what they may, and who they become."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import provider

from nexus_tw.model.settings import Heartbeat, Limits, Role, Settings
from nexus_tw.transport.conversation import STRANGER
from tests.client import TEXT, Ended, frame
from tests.node import TOKEN, clock, limited, with_roles
from tests.transport.house import Houses, left

CARRIERS = pytest.mark.parametrize("carrier", ["web", "raw"])
BEARER = f"nexus.bearer.{TOKEN}"


# --- subprotocols


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("target", "offered", "chosen"),
    [
        ("/ws", ["wamp.2.json"], "wamp.2.json"),
        ("/ws", ["wamp.2.cbor", "wamp.2.msgpack", "wamp.2.json"], "wamp.2.msgpack"),
        ("/ws", [BEARER, "wamp.2.json"], "wamp.2.json"),
        ("/json", ["wamp.2.cbor", "wamp.2.json"], "wamp.2.json"),
        ("/json", ["wamp.2.cbor", "chat"], None),
        ("/json", ["chat"], None),
        ("/json", [BEARER], None),
        ("/json", [], None),
    ],
)
async def test_the_first_subprotocol_that_is_known_is_spoken(
    houses: Houses, target: str, offered: list[str], chosen: str | None
) -> None:
    client = await (await houses()).websocket(target, protocols=offered, token=TOKEN)
    assert client.response.headers.get("sec-websocket-protocol") == chosen
    assert await client.message() == b"welcome admin"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("target", "offered", "spoken"),
    [
        ("/ws", [], "wamp.2.json, wamp.2.msgpack"),
        ("/ws", ["wamp.2.cbor", "nexus.v1.json"], "wamp.2.json, wamp.2.msgpack"),
        ("/ws", [BEARER], "wamp.2.json, wamp.2.msgpack"),
        ("/json", ["wamp.2.cbor"], "wamp.2.json"),
        ("/json", [BEARER, "wamp.2.cbor", "wamp.2.ubjson"], "wamp.2.json"),
    ],
)
@pytest.mark.parametrize("token", [TOKEN, "wrong", None])
async def test_who_offers_only_what_is_not_spoken_is_told_what_is(
    houses: Houses, target: str, offered: list[str], spoken: str, token: str | None
) -> None:
    response = await (await houses()).refusal(target, protocols=offered, token=token)
    assert (response.status, response.json["code"]) == (400, "invalid_message")
    assert response.json["detail"] == f"Sec-WebSocket-Protocol: this address speaks {spoken}"


# --- credentials at the upgrade


@pytest_twisted.ensureDeferred
async def test_a_good_token_is_as_good_as_an_introduction(houses: Houses) -> None:
    house = await houses(limited(auth=0.1))
    client = await house.websocket(token=TOKEN)
    assert await client.message() == b"welcome admin"
    (connection,) = house.connections
    assert connection.identity == "admin"


@pytest_twisted.ensureDeferred
async def test_a_wrong_token_is_not_the_same_as_none(houses: Houses) -> None:
    house = await houses()
    ways: list[dict[str, Any]] = [
        {"token": "wrong"},
        {"protocols": ["wamp.2.json", "nexus.bearer.wrong"]},
        {"target": "/ws?token=wrong"},
    ]
    for words in ways:
        client = await house.websocket(**words)
        assert await left(client) == [b"turned away 1008"]
    assert house.web.sessions == []
    assert house.metrics.connections_refused == {"unauthorized": 3}


@pytest_twisted.ensureDeferred
async def test_where_nobody_can_introduce_himself_no_token_is_a_wrong_one(houses: Houses) -> None:
    client = await (await houses()).websocket("/json", protocols=[])
    assert await left(client) == [b"turned away 1008"]


@pytest_twisted.ensureDeferred
async def test_whose_role_may_not_join_the_realm_nexus_is_refused_where_there_is_no_other(houses: Houses) -> None:
    roles = with_roles(member=Role(), stranger=Role(realms=("realm1",)))
    house = await houses(roles)
    assert await (await house.websocket("/json", protocols=[], token="member-token")).message() == b"welcome member"
    response = await house.refusal("/json", token="stranger-token")
    assert (response.status, response.json["code"]) == (403, "forbidden")
    assert response.json["detail"] == "Not allowed to join the realm nexus"
    assert await (await house.websocket("/ws", token="stranger-token")).message() == b"welcome stranger"


# --- how much may be sent


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("limit", [0, Limits().message])
@pytest.mark.parametrize("fragments", [1, 2])
async def test_before_authentication_a_message_may_have_16384_bytes_and_then_limits_message(
    houses: Houses, limit: int, fragments: int
) -> None:
    def text(size: int) -> bytes:
        payload = b"x" * size
        return frame(TEXT, payload) if fragments == 1 else frame(TEXT, payload[:9], fin=False) + frame(0, payload[9:])

    house = await houses(limited(message=limit))
    client = await house.websocket()
    client.write(text(STRANGER) + text(STRANGER + 1))
    assert await client.message() == b"welcome nobody"
    assert await client.message() == b"t:" + b"x" * STRANGER
    with pytest.raises(Ended, match="1009"):
        await client.message()
    known = await house.websocket()
    known.write(frame(TEXT, b"hello somebody") + text(262144))
    assert await known.message() == b"welcome nobody"
    assert await known.message() == b"hello somebody"
    assert len(await known.message()) == 2 + 262144


@pytest_twisted.ensureDeferred
async def test_a_token_at_the_upgrade_is_authentication_enough_for_messages_of_limits_message(houses: Houses) -> None:
    client = await (await houses()).websocket(token=TOKEN)
    client.write(frame(TEXT, b"x" * 262144))
    assert await client.message() == b"welcome admin"
    assert len(await client.message()) == 2 + 262144
    assert STRANGER == 16384


# --- introductions


@pytest_twisted.ensureDeferred
@CARRIERS
async def test_who_does_not_say_who_he_is_in_time_is_closed(houses: Houses, carrier: str) -> None:
    house = await houses(Settings(limits=Limits(auth=0.3), heartbeat=Heartbeat(interval=0.2)))
    client = await house.client(carrier)
    began = clock.seconds()
    client.send_text(b"anything")
    assert await left(client) == [b"t:anything", b"farewell 1008"]
    assert clock.seconds() - began > 0.2
    await house.connected(0)
    assert house.metrics.connections_closed == {1008: 1}


@pytest_twisted.ensureDeferred
@CARRIERS
async def test_who_says_it_stays_and_is_counted_and_logged_as_the_subject(houses: Houses, carrier: str) -> None:
    house = await houses(Settings(limits=Limits(auth=0.3), heartbeat=Heartbeat(interval=0.2)))
    client, lazy = await house.client(carrier), await house.client(carrier)
    connection, _ = house.connections
    assert connection.identity == "" and connection.audience is None and list(house.connections.peers()) == []
    client.send_text(b"hello anna")
    assert await client.message() == b"hello anna"
    assert connection.identity == "anna"
    assert [peer.client_id for peer in house.connections.peers()] == ["anna"]
    assert await left(lazy) == [b"farewell 1008"]
    client.send_text(b"still there")
    assert await client.message() == b"t:still there"
    entries: list[LogEvent] = []

    @provider(ILogObserver)
    def observer(entry: LogEvent) -> None:
        entries.append(entry)

    globalLogPublisher.addObserver(observer)
    try:
        client.wire.drop()
        await house.connected(0)
    finally:
        globalLogPublisher.removeObserver(observer)
    assert [entry["subject"] for entry in entries if "seconds" in entry] == ["anna"]
    assert list(house.connections.peers()) == []


@pytest_twisted.ensureDeferred
@CARRIERS
async def test_a_subject_may_have_so_many_connections_however_it_is_found_out(houses: Houses, carrier: str) -> None:
    house = await houses(limited(connections_per_subject=1))
    first, second, third = [await house.client(carrier) for _ in range(3)]
    first.send_text(b"hello anna")
    assert await first.message() == b"hello anna"
    second.send_text(b"hello anna")
    assert await second.message() == b"refused rate_limited"
    assert house.metrics.connections_refused == {"connections_per_subject": 1}
    third.send_text(b"hello berta")
    assert await third.message() == b"hello berta"
    first.wire.drop()
    await house.connected(2)
    second.send_text(b"hello anna")
    assert await second.message() == b"hello anna"


@pytest_twisted.ensureDeferred
@CARRIERS
async def test_an_introduction_that_expires_ends_the_connection(houses: Houses, carrier: str) -> None:
    house = await houses(Settings(heartbeat=Heartbeat(interval=0.2)))
    client, other = await house.client(carrier), await house.client(carrier)
    for each, words in ((client, b"hello anna 0.2"), (other, b"hello berta 60")):
        each.send_text(words)
        assert await each.message() == words.rpartition(b" ")[0]
    assert await left(client) == [b"farewell 4500"]
    other.send_text(b"still there")
    assert await other.message() == b"t:still there"


@pytest_twisted.ensureDeferred
@CARRIERS
async def test_who_has_left_before_it_was_found_out_who_he_is_counts_for_nobody(houses: Houses, carrier: str) -> None:
    house = await houses(limited(connections_per_subject=1))
    client = await house.client(carrier)
    session = house.session(carrier)
    client.wire.drop()
    await house.connected(0)
    session.introduce("anna")
    client = await house.client(carrier)
    client.send_text(b"hello anna")
    assert await client.message() == b"hello anna"


@pytest_twisted.ensureDeferred
@CARRIERS
async def test_those_who_are_nobody_yet_count_for_their_address(houses: Houses, carrier: str) -> None:
    house = await houses(limited(connections_per_address=1))
    await house.client(carrier)
    response = await house.refusal("/ws", protocols=["wamp.2.json"])
    assert response.status == 429


@pytest_twisted.ensureDeferred
@CARRIERS
async def test_a_fault_of_the_server_is_told_and_ends_nothing(houses: Houses, carrier: str) -> None:
    house = await houses()
    client = await house.client(carrier)
    client.send_text(b"fail")
    assert await client.message() == b"broken"
    client.send_text(b"again")
    assert await client.message() == b"t:again"
