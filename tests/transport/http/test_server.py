"""Plain HTTP over real sockets: routes, bodies, pages of other origins, and what a request may cost."""

from __future__ import annotations

import gzip
import json
from random import Random
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport, StringTransportWithDisconnection
from twisted.python.failure import Failure

from nexus_tw.auth import Authenticators
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Http, Limits, Role, Settings
from nexus_tw.transport.admission import Admission
from nexus_tw.transport.connections import Connections
from nexus_tw.transport.http.server import IDLE, Root, site
from tests.client import handshake, request
from tests.node import TOKEN, Nodes, limited, turns, with_roles

EVENT = b'{"eventType": "a.b", "data": 1}'


@pytest_twisted.ensureDeferred
async def test_a_problem_has_type_title_status_detail_and_code(nodes: Nodes) -> None:
    node = await nodes()
    response = await node.http("GET", "/nowhere")
    assert response.status == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.json == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "There is nothing at this address",
        "code": "not_found",
        "retryable": False,
    }


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("PUT", "/api/v1/events", "GET, POST, HEAD, OPTIONS"),
        ("GET", "/api/v1/broadcast", "POST, OPTIONS"),
        ("HEAD", "/api/v1/broadcast", "POST, OPTIONS"),
        ("POST", "/health/live", "GET, HEAD, OPTIONS"),
        ("DELETE", "/", "GET, HEAD, OPTIONS"),
        ("get", "/", "GET, HEAD, OPTIONS"),
    ],
)
async def test_another_method_is_answered_by_those_that_there_are(
    nodes: Nodes, method: str, target: str, allowed: str
) -> None:
    node = await nodes()
    response = await node.http(method, target)
    assert (response.status, response.headers["allow"]) == (405, allowed)
    if method != "HEAD":
        assert response.json["code"] == "method_not_allowed"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("target", ["/", "/health/live", "/health/ready", "/metrics", "/api/v1/events", "/nowhere"])
async def test_head_is_get_without_the_body(nodes: Nodes, target: str) -> None:
    node = await nodes()
    got, head = await node.http("GET", target), await node.http("HEAD", target)
    assert (head.status, head.body) == (got.status, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert int(head.headers["content-length"]) > 0


@pytest_twisted.ensureDeferred
async def test_without_a_valid_token_it_is_401_and_says_what_would_help(nodes: Nodes) -> None:
    node = await nodes()
    for token in (None, "wrong"):
        response = await node.http("POST", "/api/v1/events", token, EVENT)
        assert (response.status, response.json["code"]) == (401, "unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"
        assert "wrong" not in response.body.decode()


@pytest_twisted.ensureDeferred
async def test_a_token_travels_in_a_header_or_the_query_and_the_header_wins(nodes: Nodes) -> None:
    node = await nodes()
    good, bad = f"Authorization: Bearer {TOKEN}", "Authorization: Bearer wrong"
    assert (await node.http("POST", "/api/v1/events", None, EVENT, [good])).status == 200
    assert (await node.http("POST", "/api/v1/events", TOKEN, EVENT)).status == 200
    assert (await node.http("POST", "/api/v1/events", "wrong", EVENT, [good])).status == 200
    assert (await node.http("POST", "/api/v1/events", TOKEN, EVENT, [bad])).status == 401


@pytest_twisted.ensureDeferred
async def test_a_form_is_no_carrier_of_tokens(nodes: Nodes) -> None:
    node = await nodes()
    form = ["Content-Type: application/x-www-form-urlencoded"]
    assert (await node.http("POST", "/api/v1/events", None, f"token={TOKEN}".encode(), form)).status == 401


# --- bodies


@pytest_twisted.ensureDeferred
async def test_a_body_may_come_in_chunks(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(request("POST", "/api/v1/events", TOKEN, None, ["Transfer-Encoding: chunked"]))
    for part in (EVENT[:5], EVENT[5:], b""):
        wire.write(b"%x\r\n%b\r\n" % (len(part), part))
        await turns(2)
    assert (await wire.response()).status == 200


@pytest_twisted.ensureDeferred
async def test_a_body_too_large_is_refused_by_its_announced_length(nodes: Nodes) -> None:
    node = await nodes(limited(message=100))
    wire = await node.wire(request("POST", "/api/v1/events", TOKEN, None, ["Content-Length: 1601"]))
    response = await wire.response()
    assert (response.status, response.json["code"]) == (413, "too_large")
    assert await wire.rest() == b""


@pytest_twisted.ensureDeferred
async def test_a_body_too_large_is_refused_as_soon_as_its_chunks_are_too_many(nodes: Nodes) -> None:
    node = await nodes(limited(message=100))
    wire = await node.wire(request("POST", "/api/v1/events", TOKEN, None, ["Transfer-Encoding: chunked"]))
    for _ in range(17):
        wire.write(b"64\r\n" + b"x" * 100 + b"\r\n")
        await turns(1)
    response = await wire.response()
    assert (response.status, response.json["code"]) == (413, "too_large")
    assert await wire.rest() == b""


@pytest_twisted.ensureDeferred
async def test_a_body_of_the_largest_size_is_taken(nodes: Nodes) -> None:
    node = await nodes(limited(message=100))
    body = EVENT + b" " * (1600 - len(EVENT))
    assert (await node.http("POST", "/api/v1/events", TOKEN, body)).status == 200


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "fields",
    [
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: -1"],
        ["Content-Length: +5"],
        ["Content-Length: 5, 5"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    ],
)
async def test_a_body_of_unclear_length_is_refused(nodes: Nodes, fields: list[str]) -> None:
    """RFC 9112 section 6.3: what two parsers may read differently smuggles a request past one of them."""
    node = await nodes()
    wire = await node.wire(request("POST", "/api/v1/events", TOKEN, None, fields) + b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    response = await wire.response()
    assert (response.status, response.json["code"]) == (400, "invalid_message")
    assert await wire.rest() == b""


@pytest_twisted.ensureDeferred
async def test_a_chunk_that_is_none_is_refused(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(request("POST", "/api/v1/events", TOKEN, None, ["Transfer-Encoding: chunked"]) + b"zz\r\n")
    assert (await wire.response()).status == 400
    assert await wire.rest() == b""


@pytest_twisted.ensureDeferred
async def test_a_client_that_asks_first_is_told_to_go_on(nodes: Nodes) -> None:
    node = await nodes()
    fields = ["Expect: 100-continue", f"Content-Length: {len(EVENT)}"]
    wire = await node.wire(request("POST", "/api/v1/events", TOKEN, None, fields))
    assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.write(EVENT)
    assert (await wire.response()).status == 200


@pytest_twisted.ensureDeferred
async def test_a_later_request_on_a_connection_is_bounded_like_the_first(nodes: Nodes) -> None:
    node = await nodes(limited(headers=1000))
    wire = await node.wire(request("GET", "/health/live", None))
    assert (await wire.response()).status == 200
    wire.write(request("GET", "/health/live", None, None, ["X-A: " + "x" * 1000]))
    assert (await wire.response()).status == 431
    assert await wire.rest() == b""


@pytest_twisted.ensureDeferred
async def test_headers_larger_than_twisteds_own_limit_pass_where_they_may(nodes: Nodes) -> None:
    node = await nodes(limited(headers=40000))
    assert (await node.http("GET", "/health/live", None, None, ["X-A: " + "x" * 30000])).status == 200


@pytest.mark.parametrize("sent", [b"", b"GET /", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"])
def test_a_request_that_does_not_get_on_ends_the_connection_however_it_trickles(sent: bytes) -> None:
    clock = Clock()
    channel: Any = site(Root({}, admission(clock), print), clock, 1000, 1000).buildProtocol(None)
    transport = StringTransportWithDisconnection()
    transport.protocol = channel
    channel.makeConnection(transport)
    channel.dataReceived(sent)
    for _ in range(IDLE - 1):
        clock.advance(1)
        channel.dataReceived(b"x")
        assert transport.connected
    clock.advance(2)
    assert not transport.connected


# --- compressed bodies


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("coding", ["gzip", "GZip", "x-gzip", "identity, gzip"])
async def test_a_body_may_come_compressed(nodes: Nodes, coding: str) -> None:
    node = await nodes()
    headers = [f"Content-Encoding: {coding}"]
    halves = gzip.compress(EVENT[:9]) + gzip.compress(EVENT[9:])
    for body in (gzip.compress(EVENT), halves):
        response = await node.http("POST", "/api/v1/events", TOKEN, body, headers)
        assert (response.status, response.json["published"][0]["eventType"]) == (200, "a.b")
    assert (await node.http("POST", "/api/v1/events", TOKEN, EVENT, ["Content-Encoding: identity"])).status == 200


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "gzip, gzip", "br, gzip", "gz"])
async def test_a_coding_that_is_not_spoken_gets_415_and_accept_encoding(nodes: Nodes, coding: str) -> None:
    """RFC 9110 section 15.5.16."""
    node = await nodes()
    response = await node.http("POST", "/api/v1/events", TOKEN, EVENT, [f"Content-Encoding: {coding}"])
    assert (response.status, response.headers["accept-encoding"]) == (415, "gzip")
    assert response.json["title"] == "Unsupported Media Type"
    assert response.json["detail"].startswith("Content-Encoding: ")


@pytest_twisted.ensureDeferred
async def test_a_decompression_bomb_is_not_unpacked(nodes: Nodes) -> None:
    """What counts is what a body becomes, and no more than that is made of it."""
    node = await nodes(limited(message=100000))
    bomb = gzip.compress(b" " * 1_600_001)
    assert len(bomb) < 2000
    headers = ["Content-Encoding: gzip"]
    response = await node.http("POST", "/api/v1/events", TOKEN, bomb, headers)
    assert (response.status, response.json["code"]) == (413, "too_large")
    fits = gzip.compress(EVENT + b" " * (1_600_000 - len(EVENT)))
    assert (await node.http("POST", "/api/v1/events", TOKEN, fits, headers)).status == 200
    assert (await node.http("POST", "/api/v1/events", None, bomb, headers)).status == 401


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("body", [EVENT, gzip.compress(EVENT)[:-3], gzip.compress(EVENT) + b"more", b""])
async def test_a_body_that_is_not_what_it_is_called_is_refused(nodes: Nodes, body: bytes) -> None:
    node = await nodes()
    response = await node.http("POST", "/api/v1/events", TOKEN, body, ["Content-Encoding: gzip"])
    assert (response.status, response.json["code"]) == (400, "invalid_message")
    assert "Content-Encoding" in response.json["detail"]


# --- what is there, and who answers


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("/", "GET, HEAD, OPTIONS"),
        ("/api/v1/events", "GET, POST, HEAD, OPTIONS"),
        ("/api/v1/broadcast", "POST, OPTIONS"),
        ("*", "GET, POST, HEAD, OPTIONS"),
    ],
)
async def test_options_gets_204_with_allow(nodes: Nodes, target: str, allowed: str) -> None:
    """`OPTIONS /` is HAProxy's health check where nothing else is configured, and asks by HTTP/1.0 without a Host."""
    node = await nodes()
    response = await node.http("OPTIONS", target, None)
    assert (response.status, response.headers["allow"]) == (204, allowed)
    wire = await node.wire(f"OPTIONS {target} HTTP/1.0\r\n\r\n".encode())
    line, *fields = (await wire.rest()).decode().lower().split("\r\n")
    assert line == "http/1.0 204 no content" and f"allow: {allowed.lower()}" in fields
    assert (await node.http("OPTIONS", "/nowhere", None)).status == 404


@pytest_twisted.ensureDeferred
async def test_options_of_the_root_needs_no_page_there(nodes: Nodes) -> None:
    node = await nodes(Settings(http=Http(dashboard=False)))
    assert (await node.http("GET", "/", None)).status == 404
    assert (await node.http("OPTIONS", "/", None)).status == 204


@pytest_twisted.ensureDeferred
async def test_no_answer_names_the_software_below(nodes: Nodes) -> None:
    """Neither answers nor refusals, whichever parser makes them."""
    node = await nodes(limited(message=1000))
    long = b"GET /" + b"x" * 20000
    requests = [
        request("GET", "/", None),
        request("GET", "/nowhere", None),
        request("PUT", "/", None),
        request("OPTIONS", "*", None),
        request("GET", "*", None),
        request("CONNECT", "a.example:443", None),
        request("POST", "/api/v1/events", None, EVENT),
        request("POST", "/api/v1/events", TOKEN, b"{"),
        request("POST", "/api/v1/events", TOKEN, b"x" * 20000),
        request("POST", "/api/v1/events", TOKEN, None, ["Transfer-Encoding: chunked"]) + b"zz\r\n",
        request("GET", "/api/v1/events", None),
        b"nonsense\r\n\r\n",
        long,
        handshake(),
        handshake("/nowhere"),
        handshake(drop=["Sec-WebSocket-Key"]),
        handshake(headers=["Sec-WebSocket-Version: 12"], drop=["Sec-WebSocket-Version"]),
        handshake(headers=["Origin: http://other.example"]),
    ]
    for sent in requests:
        for first in (b"", request("GET", "/health/live", None)):
            wire = await node.wire(first + sent)
            if first:
                await wire.response()
            head = (await wire.until(b"\r\n\r\n")).lower()
            wire.drop()
            told = head + wire.data.lower()
            assert head.startswith(b"http/1.1 "), sent
            assert not [word for word in (b"twisted", b"autobahn", b"python", b"web.server") if word in told], (sent, told)


def admission(time: Any) -> Admission:
    """One that minds nobody."""
    connections = Connections(time, Limits(), 10, Random(1))
    return Admission({}, Authenticators([]), connections, Http(), Metrics(), time, 10.0)


class Broken(Root):
    def _send(self, request: Any, answer: Any) -> None:
        raise RuntimeError("a fault")


def test_a_fault_of_the_servers_own_is_a_problem_document_too() -> None:
    channel: Any = site(Broken({}, admission(Clock()), print), Clock(), 1000, 1000).buildProtocol(None)
    transport = StringTransportWithDisconnection()
    transport.protocol = channel
    channel.makeConnection(transport)
    channel.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    head, _, body = transport.value().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ") and b"\r\nServer:" not in head
    assert json.loads(body)["code"] == "internal"
    assert not transport.connected


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_a_client_that_does_not_close_after_its_last_answer_is_dropped(sent: bytes) -> None:
    """As it could under TLS, where both sides close."""
    clock = Clock()
    channel: Any = site(Root({}, admission(clock), print), clock, 1000, 1000).buildProtocol(None)
    transport: Any = StringTransport()
    channel.makeConnection(transport)
    channel.dataReceived(sent)
    assert transport.value() and transport.disconnecting
    clock.advance(IDLE - 0.1)
    assert not transport.disconnected
    clock.advance(0.2)
    assert transport.disconnected
    channel.connectionLost(Failure(ConnectionDone()))
    assert not clock.getDelayedCalls()


# --- pages of other origins


@pytest_twisted.ensureDeferred
async def test_a_listed_origin_may_ask_and_read_answers_and_refusals(nodes: Nodes) -> None:
    node = await nodes(Settings(http=Http(origins=("https://ops.example",))))
    origin = ["Origin: https://ops.example"]
    preflight = await node.http(
        "OPTIONS", "/api/v1/events", None, None, [*origin, "Access-Control-Request-Method: POST"]
    )
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-methods"] == "GET, POST"
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    for token, status in ((TOKEN, 200), (None, 401)):
        response = await node.http("POST", "/api/v1/events", token, EVENT, origin)
        assert response.status == status
        assert response.headers["access-control-allow-origin"] == "https://ops.example"
        assert response.headers["vary"] == "Origin"
    for method, target in (("GET", "/nowhere"), ("PUT", "/api/v1/events")):
        response = await node.http(method, target, TOKEN, None, origin)
        assert response.headers["access-control-allow-origin"] == "https://ops.example"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_another_origin_gets_403_and_may_read_nothing(nodes: Nodes, method: str) -> None:
    node = await nodes(Settings(http=Http(origins=("https://ops.example",))))
    response = await node.http(method, "/api/v1/events", TOKEN, EVENT, ["Origin: https://evil.example"])
    assert (response.status, response.json["code"]) == (403, "forbidden")
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest_twisted.ensureDeferred
async def test_the_servers_own_page_may_ask(nodes: Nodes) -> None:
    node = await nodes()
    assert (await node.http("POST", "/api/v1/events", TOKEN, EVENT, ["Origin: http://localhost"])).status == 200


# --- trouble


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_before_its_answer_harms_nobody(nodes: Nodes) -> None:
    node = await nodes()
    for _ in range(5):
        (await node.wire(request("POST", "/api/v1/broadcast", TOKEN, b'{"data": 1}'))).drop()
    await turns(10)
    assert (await node.http("GET", "/health/live")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_role_that_is_no_admin_gets_403_where_one_is_needed(nodes: Nodes) -> None:
    node = await nodes(with_roles(agent=Role(publish=("**",))))
    for method, target in (("GET", "/metrics"), ("POST", "/api/v1/broadcast")):
        response = await node.http(method, target, "agent-token", b'{"data": 1}')
        assert (response.status, response.json["code"]) == (403, "forbidden")


@pytest_twisted.ensureDeferred
async def test_http_is_for_those_who_may_be_in_the_realm_nexus(nodes: Nodes) -> None:
    node = await nodes(with_roles(stranger=Role(publish=("**",), realms=("realm1",)), member=Role(publish=("**",))))
    for name, status in (("stranger", 403), ("member", 200)):
        response = await node.http("POST", "/api/v1/events", f"{name}-token", EVENT)
        assert response.status == status
        assert response.json.get("code") == ("forbidden" if status == 403 else None)
