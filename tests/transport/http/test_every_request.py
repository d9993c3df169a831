"""The rules for a request hold at every place on its connection: the first, a later one, an upgrade, a late upgrade."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import pytest_twisted

from nexus_tw.model.settings import Compression, Http, Settings
from tests.client import Response, handshake, request
from tests.node import TOKEN, Node, Nodes, limited

PLACES = ["first", "kept-alive", "upgrade", "late-upgrade"]

places = pytest.mark.parametrize("place", PLACES)


class Wants:
    """A request at a place: what is sent before it is answered first."""

    def __init__(self, place: str) -> None:
        self.late = place in ("kept-alive", "late-upgrade")
        self.upgrade = "upgrade" in place
        self.good = 101 if self.upgrade else 200

    def head(self, headers: Sequence[str] = (), drop: Sequence[str] = ()) -> bytes:
        if self.upgrade:
            return handshake(token=TOKEN, headers=headers, drop=drop)
        lines = [] if "Host" in drop else ["Host: localhost"]
        return "\r\n".join(["GET /health/live HTTP/1.1", *lines, *headers, "", ""]).encode("latin-1")

    async def ask(self, node: Node, head: bytes) -> Response:
        """The answer to that head; where it is no request, or no upgrade, the connection ends with it."""
        wire = await node.wire()
        if self.late:
            wire.write(request("GET", "/health/ready", None))
            assert (await wire.response()).status == 200
        wire.write(head)
        response = await wire.response()
        if response.status in (400, 431) or (self.upgrade and response.status != 101):
            assert await wire.rest() == b""
        return response


@places
@pytest.mark.parametrize("line", ["cf-region: São Paulo", "X-A: 1\x85Sec-WebSocket-Protocol: smuggled", "Referer: \xff\xfe"])
@pytest_twisted.ensureDeferred
async def test_one_header_beyond_ascii_shuts_nobody_out_and_smuggles_nothing_in(nodes: Nodes, place: str, line: str) -> None:
    wants = Wants(place)
    response = await wants.ask(await nodes(), wants.head([line]))
    assert response.status == wants.good
    assert "sec-websocket-protocol" not in response.headers


@pytest_twisted.ensureDeferred
async def test_a_post_may_have_a_header_beyond_ascii(nodes: Nodes) -> None:
    node = await nodes()
    response = await node.http("POST", "/api/v1/events", TOKEN, b'{"eventType": "a.b", "data": 1}', ["cf-region: São Paulo"])
    assert response.status == 200


@places
@pytest.mark.parametrize(
    "line",
    [
        "X-A: 1\x0bX-B: 2",
        "X-A: 1\x1cX-B: 2",
        "X-A: 1\nX-B: 2",
        "X-A: 1\rX-B: 2",
        "X-A: \x00",
        "X-A: \x7f",
        "X-A : 1",
        " folded",
        "X-ä: 1",
        "Origin: http://localhöst",
        "X-Forwarded-For: 192.0.2.1é",
        "Transfer-Encoding: chunked\r\nContent-Length: 1",
    ],
)
@pytest_twisted.ensureDeferred
async def test_bytes_that_smuggle_and_opaque_octets_in_what_is_read_are_refused(nodes: Nodes, place: str, line: str) -> None:
    wants = Wants(place)
    response = await wants.ask(await nodes(), wants.head([line]))
    assert (response.status, response.json["code"]) == (400, "invalid_message")


@places
@pytest.mark.parametrize(("drop", "headers"), [(["Host"], []), ([], ["Host: localhost"]), ([], ["host: other"])])
@pytest_twisted.ensureDeferred
async def test_no_host_and_two_hosts_are_refused(nodes: Nodes, place: str, drop: list[str], headers: list[str]) -> None:
    """RFC 9112 section 3.2."""
    wants = Wants(place)
    response = await wants.ask(await nodes(), wants.head(headers, drop))
    assert response.status == 400
    assert "host: is" in response.json["detail"]


@places
@pytest_twisted.ensureDeferred
async def test_crlf_before_the_request_line_is_passed_over_once(nodes: Nodes, place: str) -> None:
    """RFC 9112 section 2.2."""
    wants = Wants(place)
    node = await nodes()
    assert (await wants.ask(node, b"\r\n" + wants.head())).status == wants.good
    assert (await wants.ask(node, b"\r\n\r\n" + wants.head())).status == 400


@places
@pytest_twisted.ensureDeferred
async def test_a_header_block_has_one_limit(nodes: Nodes, place: str) -> None:
    wants = Wants(place)
    node = await nodes(limited(headers=1000))
    for size, status in ((1000, wants.good), (1001, 431)):
        empty = wants.head(["X-A: "])
        head = empty.replace(b"X-A: ", b"X-A: " + b"x" * (size - len(empty)))
        assert len(head) == size
        assert (await wants.ask(node, head)).status == status


@pytest.mark.parametrize("place", ["upgrade", "late-upgrade"])
@pytest_twisted.ensureDeferred
async def test_every_header_that_may_be_a_list_may_stand_on_two_lines(nodes: Nodes, place: str) -> None:
    """RFC 6455 section 11.3.2 for Sec-WebSocket-Extensions, RFC 9110 section 5.3 for all."""
    wants = Wants(place)
    node = await nodes(Settings(compression=Compression(enabled=True)))
    lines = [
        "Upgrade: h2c",
        "Upgrade: websocket",
        "Connection: keep-alive",
        "Connection: Upgrade",
        "Sec-WebSocket-Extensions: x-foo",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "Sec-WebSocket-Protocol: other,",
        "Sec-WebSocket-Protocol: , nexus.v1.json",
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-For: 192.0.2.2",
    ]
    response = await wants.ask(node, wants.head(lines, ["Upgrade", "Connection"]))
    assert response.status == 101
    assert response.headers["sec-websocket-protocol"] == "nexus.v1.json"
    assert response.headers["sec-websocket-extensions"].startswith("permessage-deflate")
    assert [connection.address for connection in node.server.connections] == ["192.0.2.2"]


@pytest.mark.parametrize("lines", [["Connection: keep-alive", "Connection: close"], ["Connection: TE,close"]])
@pytest_twisted.ensureDeferred
async def test_close_is_found_wherever_it_stands_in_connection(nodes: Nodes, lines: list[str]) -> None:
    node = await nodes()
    wire = await node.wire(request("GET", "/health/live", None, None, lines))
    assert (await wire.response()).status == 200
    assert await wire.rest() == b""


@places
@pytest_twisted.ensureDeferred
async def test_an_origin_is_judged_alike(nodes: Nodes, place: str) -> None:
    """That of this host (`ws:` as well), those that are listed as a text, and no other."""
    wants = Wants(place)
    node = await nodes(Settings(http=Http(origins=("file://", "null", "app:me", "https://ops.example"))))
    for origin in ("http://localhost", "ws://localhost", "wss://localhost", "file://", "null", "app:me", "https://OPS.example:443"):
        assert (await wants.ask(node, wants.head([f"Origin: {origin}"]))).status == wants.good, origin
    for lines in (
        ["Origin: file:"],
        ["Origin: app:me/"],
        ["Origin: http://other"],
        ["Origin: ws://localhost:3000"],
        ["Origin: null", "Origin: null"],
    ):
        response = await wants.ask(node, wants.head(lines))
        assert (response.status, response.json["code"]) == (403, "forbidden"), lines
