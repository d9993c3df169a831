"""Routes over real sockets: addresses, methods, tokens, pages of other origins, and faults."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from nexus_tw.model.settings import Http, Role, Settings
from nexus_tw.transport.http.routes import Root
from nexus_tw.transport.http.site import BoundedSite
from tests.client import handshake, request
from tests.node import TOKEN, Nodes, limited, turns, with_roles
from tests.transport.http.admission import admission

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


# --- what is there, and who answers


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("/", "GET, HEAD, OPTIONS"),
        ("/api/v1/events", "GET, POST, HEAD, OPTIONS"),
        ("/api/v1/broadcast", "POST, OPTIONS"),
        ("*", "GET, POST, DELETE, HEAD, OPTIONS"),
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


class Broken(Root):
    def _send(self, request: Any, answer: Any) -> None:
        raise RuntimeError("a fault")


def test_a_fault_of_the_servers_own_is_a_problem_document_too() -> None:
    site: Any = BoundedSite(Broken({}, admission(Clock()), print), Clock(), 1000, 1000)
    channel = site.buildProtocol(None)
    transport = StringTransportWithDisconnection()
    transport.protocol = channel
    channel.makeConnection(transport)
    channel.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    head, _, body = transport.value().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ") and b"\r\nServer:" not in head
    assert json.loads(body)["code"] == "internal"
    assert not transport.connected


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
