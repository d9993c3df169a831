"""Admission over real sockets: who may open a WebSocket, where, how many, and as whom."""

from __future__ import annotations

import pytest
import pytest_twisted

from nexus_tw.model.settings import Http, Limits, Role, Settings
from tests.client import Client, handshake
from tests.node import TOKEN, Node, Nodes, limited, until, with_roles

BEARER = f"nexus.bearer.{TOKEN}"


# --- where


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("target", ["/", "/nowhere", "/health/live", "/api/v1/events/", "/echo", "/api/v1/broadcast"])
async def test_where_nothing_speaks_websocket_it_is_404(nodes: Nodes, target: str) -> None:
    node = await nodes()
    response = await node.refusal(target=target, token=TOKEN)
    assert (response.status, response.json["code"]) == (404, "not_found")


@pytest_twisted.ensureDeferred
async def test_a_plain_request_where_websocket_is_spoken_is_told_to_upgrade(nodes: Nodes) -> None:
    node = await nodes()
    response = await node.http("GET", "/api/v1/events")
    assert (response.status, response.headers["upgrade"]) == (426, "websocket")
    assert response.json["code"] == "invalid_message"


@pytest_twisted.ensureDeferred
async def test_echo_is_served_only_where_it_was_asked_for(nodes: Nodes) -> None:
    node = await nodes(Settings(echo=True))
    wire = await node.wire(handshake("/echo", token=TOKEN))
    client = Client(wire, await wire.response())
    client.send_text("anything")
    assert await client.message() == b"anything"


# --- the handshake's own rules (RFC 6455 section 4.2.1)


@pytest_twisted.ensureDeferred
async def test_another_version_is_told_which_one_there_is(nodes: Nodes) -> None:
    node = await nodes()
    for version in ("8", "12", "14"):
        headers = [f"Sec-WebSocket-Version: {version}"]
        response = await node.refusal(token=TOKEN, headers=headers, drop=["Sec-WebSocket-Version"])
        assert response.status in (400, 426)
        assert response.headers["sec-websocket-version"] == "13"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("drop", "headers"),
    [
        (["Sec-WebSocket-Key"], []),
        (["Sec-WebSocket-Key"], ["Sec-WebSocket-Key: short"]),
        (["Sec-WebSocket-Key"], ["Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!=="]),
        ([], ["Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA=="]),
        (["Sec-WebSocket-Version"], []),
        (["Sec-WebSocket-Version"], ["Sec-WebSocket-Version: thirteen"]),
        (["Connection"], []),
        (["Connection"], ["Connection: close"]),
    ],
)
async def test_a_handshake_that_is_wrong_is_refused(nodes: Nodes, drop: list[str], headers: list[str]) -> None:
    node = await nodes()
    response = await node.refusal(token=TOKEN, drop=drop, headers=headers)
    assert response.status == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json["code"] == "invalid_message"
    assert node.metrics.connections_refused["handshake"] == 1


@pytest_twisted.ensureDeferred
async def test_a_refused_handshake_does_not_repeat_what_the_client_sent(nodes: Nodes) -> None:
    node = await nodes()
    target = f"/api/v1/events?token={TOKEN}"
    for headers in (["Sec-WebSocket-Key: secret-key"], [f"Sec-WebSocket-Protocol: a, {BEARER}, {BEARER}"]):
        response = await node.refusal(target=target, headers=headers, drop=["Sec-WebSocket-Version"])
        text = response.body.decode() + str(response.headers)
        assert TOKEN not in text and "secret-key" not in text


@pytest_twisted.ensureDeferred
async def test_words_of_the_handshake_may_be_written_in_any_case_and_among_others(nodes: Nodes) -> None:
    node = await nodes()
    headers = ["upgrade: h2c, WebSocket", "CONNECTION: keep-alive, UPGRADE"]
    await node.client(headers=headers, drop=["Upgrade", "Connection"])


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "CONNECT"])
async def test_only_get_can_be_upgraded(nodes: Nodes, method: str) -> None:
    node = await nodes()
    wire = await node.wire(handshake(token=TOKEN).replace(b"GET", method.encode(), 1))
    assert (await wire.response(method)).status != 101


# --- subprotocols


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([], None),
        (["nexus.v1.json"], "nexus.v1.json"),
        (["nexus.v1.json", BEARER], "nexus.v1.json"),
        ([BEARER, "nexus.v1.json"], "nexus.v1.json"),
        (["chat", "nexus.v1.json"], "nexus.v1.json"),
        (["chat", "superchat"], None),
        ([BEARER], None),
    ],
)
async def test_the_first_known_subprotocol_is_chosen_and_never_one_with_a_token(
    nodes: Nodes, offered: list[str], chosen: str | None
) -> None:
    node = await nodes()
    client = await node.client(protocols=offered)
    assert client.response.headers.get("sec-websocket-protocol") == chosen


# --- tokens


@pytest_twisted.ensureDeferred
async def test_a_token_travels_in_a_header_the_query_or_a_subprotocol(nodes: Nodes) -> None:
    node = await nodes()
    for client in (
        await node.client(TOKEN),
        await node.client(None, target=f"/api/v1/events?token={TOKEN}"),
        await node.client(None, protocols=["nexus.v1.json", BEARER]),
    ):
        assert client.welcome["user"] == {"subject": "admin", "role": "admin"}


@pytest_twisted.ensureDeferred
async def test_the_first_carrier_wins_also_where_its_token_is_wrong(nodes: Nodes) -> None:
    """The header before the query before the subprotocol."""
    node = await nodes()
    query, wrong_query = f"/api/v1/events?token={TOKEN}", "/api/v1/events?token=wrong"
    wrong_protocols = ["nexus.bearer.wrong"]
    await node.client(TOKEN, target=wrong_query, protocols=wrong_protocols)
    await node.client(None, target=query, protocols=wrong_protocols)
    assert await closed_at_once(node, token="wrong", target=query, protocols=[BEARER]) == (1008, "Unauthorized")
    assert await closed_at_once(node, target=wrong_query, protocols=[BEARER]) == (1008, "Unauthorized")


async def closed_at_once(node: Node, **words: object) -> tuple[int, str]:
    wire = await node.wire(handshake(**words))  # type: ignore[arg-type]
    client = Client(wire, await wire.response())
    assert client.response.status == 101
    closed = await client.closed()
    assert [message["type"] for message in client.left] == ["disconnect"]
    return closed


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("token", [None, "wrong", "", "a b", "x" * 9000, "a.b.c", "\x7f"])
async def test_without_a_valid_token_the_socket_opens_and_is_closed_with_1008(nodes: Nodes, token: str | None) -> None:
    node = await nodes()
    target = "/api/v1/events" if token is None else f"/api/v1/events?token={token}".replace(" ", "%20").replace("\x7f", "%7f")
    assert await closed_at_once(node, target=target) == (1008, "Unauthorized")
    await node.connected(0)
    assert node.metrics.connections_refused["unauthorized"] == 1


@pytest_twisted.ensureDeferred
async def test_what_an_unauthorized_client_sends_is_not_even_looked_at(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(handshake(token="wrong"))
    client = Client(wire, await wire.response())
    client.send(type="publish", eventType="a.b", data=1)
    assert await client.closed() == (1008, "Unauthorized")
    assert [message["type"] for message in client.left] == ["disconnect"]
    assert node.metrics.events_published == 0


@pytest_twisted.ensureDeferred
async def test_a_query_of_many_members_is_no_trouble(nodes: Nodes) -> None:
    node = await nodes()
    await node.client(None, target="/api/v1/events?" + "a=1&" * 500 + f"token={TOKEN}")


# --- origins


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:8080", "http://localhost.evil.example"])
async def test_a_page_of_another_origin_gets_403(nodes: Nodes, origin: str) -> None:
    node = await nodes()
    response = await node.refusal(token=TOKEN, headers=[f"Origin: {origin}"])
    assert (response.status, response.json["code"]) == (403, "forbidden")
    assert node.metrics.connections_refused["origin"] == 1


@pytest_twisted.ensureDeferred
async def test_the_servers_own_origin_a_listed_one_and_none_may_connect(nodes: Nodes) -> None:
    node = await nodes(Settings(http=Http(origins=("https://ops.example",))))
    for headers in ([], ["Origin: http://localhost"], ["Origin: https://localhost"], ["Origin: https://ops.example"]):
        await node.client(headers=headers)


@pytest_twisted.ensureDeferred
async def test_two_origins_are_none_that_may_connect(nodes: Nodes) -> None:
    node = await nodes()
    headers = ["Origin: http://localhost", "Origin: http://localhost"]
    assert (await node.refusal(token=TOKEN, headers=headers)).status == 403


# --- how many


@pytest_twisted.ensureDeferred
async def test_a_connection_too_many_gets_503_and_is_told_when_to_come_back(nodes: Nodes) -> None:
    node = await nodes(limited(connections=2))
    first, second = await node.client(), await node.client()
    response = await node.refusal(token=TOKEN)
    assert (response.status, response.json["code"], response.json["retryable"]) == (503, "rate_limited", True)
    assert int(response.headers["retry-after"]) > 0
    assert node.metrics.connections_refused == {"connections": 1}
    first.leave()
    await node.connected(1)
    await node.client()
    assert await second.heard() == []
    assert Limits().connections == 0


@pytest_twisted.ensureDeferred
async def test_without_a_limit_there_are_as_many_as_descriptors_allow(nodes: Nodes) -> None:
    node = await nodes(descriptors=1)
    await node.client()
    assert (await node.refusal(token=TOKEN)).status == 503


@pytest_twisted.ensureDeferred
async def test_an_address_may_have_so_many_connections_and_another_one_as_many(nodes: Nodes) -> None:
    node = await nodes(limited(connections_per_address=1))
    here, there = ["X-Forwarded-For: 192.0.2.1"], ["X-Forwarded-For: 192.0.2.2"]
    await node.client(headers=here)
    await node.client(headers=there)
    response = await node.refusal(token=TOKEN, headers=here)
    assert (response.status, response.json["code"]) == (429, "rate_limited")
    assert int(response.headers["retry-after"]) > 0
    assert node.metrics.connections_refused == {"connections_per_address": 1}
    assert Limits().connections_per_address == 0


@pytest_twisted.ensureDeferred
async def test_a_stranger_cannot_choose_its_own_address(nodes: Nodes) -> None:
    node = await nodes(Settings(limits=Limits(connections_per_address=1), http=Http(trusted_proxies=())))
    await node.client(headers=["X-Forwarded-For: 192.0.2.1"])
    assert (await node.refusal(token=TOKEN, headers=["X-Forwarded-For: 192.0.2.2"])).status == 429


@pytest_twisted.ensureDeferred
async def test_a_subject_may_have_so_many_connections_and_another_one_as_many(nodes: Nodes) -> None:
    roles = with_roles(one=Role(), two=Role())
    node = await nodes(Settings(limits=Limits(connections_per_subject=1), roles=roles.roles, auth=roles.auth))
    await node.client("one-token")
    await node.client("two-token")
    response = await node.refusal(token="one-token")
    assert (response.status, response.json["code"]) == (429, "rate_limited")
    assert int(response.headers["retry-after"]) > 0
    assert node.metrics.connections_refused == {"connections_per_subject": 1}
    assert Limits().connections_per_subject == 0


@pytest_twisted.ensureDeferred
async def test_those_without_a_token_do_not_use_up_a_subjects_connections(nodes: Nodes) -> None:
    node = await nodes(limited(connections_per_subject=1))
    for _ in range(3):
        assert await closed_at_once(node) == (1008, "Unauthorized")


@pytest_twisted.ensureDeferred
async def test_new_connections_come_at_a_bounded_rate(nodes: Nodes) -> None:
    node = await nodes(limited(connect_rate=2))
    for _ in range(2):
        await node.client()
    response = await node.refusal(token=TOKEN)
    assert (response.status, response.json["code"]) == (503, "rate_limited")
    assert int(response.headers["retry-after"]) == 1
    assert node.metrics.connections_refused == {"connect_rate": 1}
    assert Limits().connect_rate == 0


# --- a node that is going


@pytest_twisted.ensureDeferred
async def test_while_it_drains_a_node_takes_nobody_and_is_not_ready(nodes: Nodes) -> None:
    node = await nodes()
    kept = await node.wire()  # a connection from before
    node.server.connections.draining = True
    for target in ("/api/v1/events", "/nowhere"):
        response = await node.refusal(target=target, token=TOKEN)
    assert response.status == 404
    response = await node.refusal(token=TOKEN)
    assert (response.status, response.json["code"]) == (503, "shutting_down")
    assert int(response.headers["retry-after"]) > 0
    response = await node.http("GET", "/health/ready", None)
    assert (response.status, response.json["reason"]) == (503, "shutting down")
    assert int(response.headers["retry-after"]) > 0
    assert (await node.http("GET", "/health/live", None)).status == 200
    kept.write(handshake(token=TOKEN))
    assert (await kept.response()).status == 503
    await until(lambda: kept.over)
