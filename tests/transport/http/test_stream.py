"""Event streams over real sockets: what is granted and refused, and that they are connections as all others."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred

from nexus_tw.auth import Authenticators
from nexus_tw.interfaces.plugins import Credentials
from nexus_tw.model.names import parse_pattern
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.model.settings import Heartbeat, Http, Role, Settings
from nexus_tw.protocols.sse.session import SOON
from nexus_tw.transport.backlog import HARD
from tests.client import Response, request
from tests.node import TOKEN, Node, Nodes, clock, limited, small_buffers, until, with_roles
from tests.transport.http.streams import asking, stream


async def publish(node: Node, data: Any, event_type: str = "a.b") -> None:
    body = json.dumps({"eventType": event_type, "data": data}).encode()
    assert (await node.http("POST", "/api/v1/events", TOKEN, body)).status == 200


async def refused(node: Node, query: str = "events=a.b", token: str | None = TOKEN, *headers: str) -> Response:
    """The answer to a request that is refused, after which the connection is closed."""
    wire = await node.wire(asking(query, token, headers))
    response = await wire.response()
    assert response.status != 200 and await wire.rest() == b""
    assert response.headers["content-type"] == "application/problem+json"
    return response


# --- events


@pytest_twisted.ensureDeferred
async def test_every_event_is_the_json_message_in_one_line_of_data(nodes: Nodes) -> None:
    node = await nodes()
    opened = await stream(node, "events=a.b,task.**")
    assert opened.headers["content-type"] == "text/event-stream"
    assert opened.headers["cache-control"] == "no-store"
    assert opened.headers["x-accel-buffering"] == "no"
    assert SOON[0] <= opened.retry <= SOON[1]
    assert opened.last_id
    body = b'{"eventType": "a.b", "data":\r\n{"x":\n"line\\nend"}}'
    assert (await node.http("POST", "/api/v1/events", TOKEN, body)).status == 200
    await publish(node, None, "task.deep.er")
    await publish(node, 1, "other")
    await publish(node, 2)
    got = [await opened.message() for _ in range(3)]
    assert [(each["type"], each["eventType"], each["data"]) for each in got] == [
        ("event", "a.b", {"x": "line\nend"}),
        ("event", "task.deep.er", None),
        ("event", "a.b", 2),
    ]


@pytest_twisted.ensureDeferred
async def test_filters_select(nodes: Nodes) -> None:
    node = await nodes()
    opened = await stream(node, f"events=a.b&filters={quote(json.dumps({'x': {'gt': 1}}))}")
    for x in range(4):
        await publish(node, {"x": x})
    assert [(await opened.message())["data"]["x"] for _ in range(2)] == [2, 3]


@pytest_twisted.ensureDeferred
async def test_a_connection_that_served_requests_may_become_a_stream(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(request("GET", "/health/live", None))
    assert (await wire.response()).status == 200
    opened = await stream(node, wire=wire)
    await publish(node, "here")
    assert (await opened.message())["data"] == "here"
    assert node.server.connections.visits == 0


@pytest_twisted.ensureDeferred
async def test_a_broadcast_is_for_listeners_too(nodes: Nodes) -> None:
    node = await nodes()
    opened = await stream(node)
    response = await node.http("POST", "/api/v1/broadcast", TOKEN, b'{"data": {"to":\n"all"}}')
    assert response.json == {"recipients": 1}
    message = await opened.message()
    assert (message["type"], message["data"]) == ("broadcast", {"to": "all"})


@pytest_twisted.ensureDeferred
async def test_what_the_client_sends_after_its_request_is_ignored(nodes: Nodes) -> None:
    node = await nodes()
    opened = await stream(node)
    opened.wire.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
    await publish(node, 1)
    assert (await opened.message())["data"] == 1


# --- refusals


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "events: is missing"),
        ("events=a.b&events=c", "events: is there more than once"),
        ("events=a.b,,c", "events[1]: "),
        ("events=a.b&filters=5", "filters: expected object"),
        ("events=a.b&filters={", "filters: "),
        ("events=a.b&filters=" + "[" * 40 + "]" * 40, "filters: nested deeper than 32"),
        ("events=a.b&lastEventId=1&lastEventId=2", "lastEventId: is there more than once"),
    ],
)
async def test_parameters_are_strict_and_their_errors_name_them(nodes: Nodes, query: str, why: str) -> None:
    response = await refused(await nodes(), query)
    assert (response.status, response.json["code"]) == (400, "invalid_message")
    assert response.json["detail"].startswith(f"Invalid message format: {why}")


@pytest_twisted.ensureDeferred
async def test_rights_are_those_of_subscribe(nodes: Nodes) -> None:
    node = await nodes(with_roles(agent=Role(subscribe=("a.*",))))
    await stream(node, "events=a.*", "agent-token")
    response = await refused(node, "events=a.b,c", "agent-token")
    assert (response.status, response.json["code"]) == (403, "forbidden")
    for token in (None, "wrong-token"):
        response = await refused(node, token=token)
        assert (response.status, response.headers["www-authenticate"]) == (401, "Bearer")


@pytest_twisted.ensureDeferred
async def test_the_token_may_be_in_a_header(nodes: Nodes) -> None:
    node = await nodes()
    await stream(node, token=None, headers=(f"Authorization: Bearer {TOKEN}",))


@pytest_twisted.ensureDeferred
async def test_origins_are_those_of_websockets_and_the_answer_may_be_read_by_them(nodes: Nodes) -> None:
    node = await nodes(Settings(http=Http(origins=("https://page.example",))))
    opened = await stream(node, headers=("Origin: https://page.example",))
    assert opened.headers["access-control-allow-origin"] == "https://page.example"
    assert opened.headers["vary"] == "Origin"
    assert (await refused(node, "events=a..b", TOKEN, "Origin: https://page.example")).headers[
        "access-control-allow-origin"
    ] == "https://page.example"
    assert (await refused(node, "events=a.b", TOKEN, "Origin: https://other.example")).status == 403


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "headers", [(), ("Accept: text/event-stream;q=0.5, */*",), ("Accept: text/event-stream", "Content-Length: 0")]
)
async def test_only_a_plain_get_that_accepts_one_opens_a_stream(nodes: Nodes, headers: tuple[str, ...]) -> None:
    node = await nodes()
    if "Accept: text/event-stream;q=0.5, */*" in headers:
        wire = await node.wire(request("GET", "/api/v1/events?events=a", TOKEN, None, headers))
        assert (await wire.until(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
    else:
        assert (await node.http("GET", "/api/v1/events?events=a", TOKEN, None, headers)).status == 426
    assert (await node.http("HEAD", "/api/v1/events?events=a", TOKEN, None, headers)).status == 426


# --- a connection as all others


@pytest_twisted.ensureDeferred
async def test_it_counts_as_a_connection_and_its_limits_hold(nodes: Nodes) -> None:
    node = await nodes(limited(connections_per_subject=1))
    opened = await stream(node)
    assert len(node.server.connections) == 1
    response = await refused(node)
    assert (response.status, response.json["code"]) == (429, "rate_limited")
    assert int(response.headers["retry-after"]) > 0
    assert (await node.refusal(token=TOKEN)).status == 429
    opened.wire.drop()
    await node.connected(0)
    await stream(node)
    assert node.metrics.connections_refused["connections_per_subject"] == 2


@pytest_twisted.ensureDeferred
async def test_one_that_comes_back_and_finds_no_room_is_told_when_to_try_again(nodes: Nodes) -> None:
    """A status would end an `EventSource` for ever."""
    node = await nodes(limited(connections_per_subject=1))
    await stream(node)
    wire = await node.wire(asking("events=a.b", headers=("Last-Event-ID: 1",)))
    head, _, rest = (await wire.rest()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and rest.startswith(b"retry: ") and rest.endswith(b"\n\n")
    assert (await refused(node, "events=a.b", "wrong-token", "Last-Event-ID: 1")).status == 401, "that will not pass"


@pytest_twisted.ensureDeferred
async def test_comments_keep_it_open_and_a_client_that_says_nothing_is_not_closed(nodes: Nodes) -> None:
    node = await nodes(Settings(heartbeat=Heartbeat(interval=0.1, timeout=0.2)))
    opened = await stream(node)
    while opened.comments < 6:
        assert await opened.block() is None
    assert not opened.wire.over


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_is_closed_and_nobody_waits_for_it(nodes: Nodes) -> None:
    node = await nodes(limited(send_queue=100_000 // HARD, message=50_000))
    slow = await stream(node)
    (transport,) = node.transports()
    small_buffers(slow.wire, transport)
    slow.wire.transport.pauseProducing()
    quick = await stream(node)
    for number in range(30):
        await publish(node, [number, "x" * 20000])
        assert (await quick.message())["data"][0] == number
    await until(lambda: node.left()["nexus: hub"][0][0].plain.size == 1)
    slow.wire.transport.resumeProducing()
    *events, last = await slow.rest()
    numbers = [message["data"][0] for message in events]
    assert numbers == list(range(len(numbers))) and len(numbers) < 30, "what was queued comes whole and in order"
    assert (last["type"], last["code"], last["reconnect"]) == ("disconnect", 4001, True)
    await node.connected(1)
    assert node.metrics.connections_closed[4001] == 1


class _Soon:
    """Knows a token that expires in a moment."""

    def authenticate(self, _credentials: Credentials) -> Principal:
        return Principal("short", "admin", ADMIN, clock.seconds() + 0.2)


@pytest_twisted.ensureDeferred
async def test_the_end_of_its_token_ends_it(nodes: Nodes) -> None:
    node = await nodes(Settings(heartbeat=Heartbeat(interval=0.2)), authenticators=Authenticators([_Soon()]))  # type: ignore[list-item]
    opened = await stream(node)
    (last,) = await opened.rest()
    assert (last["type"], last["code"], last["reconnect"]) == ("disconnect", 4500, False)


@pytest_twisted.ensureDeferred
async def test_a_drain_tells_it_and_ends_it_and_refuses_new_ones(nodes: Nodes) -> None:
    node = await nodes()
    opened = await stream(node)
    drained = ensureDeferred(node.server.drain())
    (last,) = await opened.rest()
    assert (last["code"], last["reason"], last["reconnect"]) == (1000, "Server shutting down", True)
    assert 0 < opened.retry <= 500 + last["delay"]
    response = await refused(node)
    assert (response.status, response.json["code"]) == (503, "shutting_down")
    await drained


@pytest_twisted.ensureDeferred
async def test_an_administrator_who_ends_its_subscription_ends_it(nodes: Nodes) -> None:
    node = await nodes()
    opened = await stream(node)
    (peer,) = node.server.connections.peers()
    peer.unsubscribed(node.server.realms["nexus"].subscription(parse_pattern("a.b", "events")), "")
    (last,) = await opened.rest()
    assert last["code"] == 4502
