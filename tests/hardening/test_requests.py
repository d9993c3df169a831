"""Requests that are made to be read in two ways, to be sent back to somebody, or to take long.

Beside these: smuggled header bytes in `tests/transport/test_opening.py` and `test_door.py`; announced lengths and chunks one by
one in `tests/transport/http/test_body.py`; foreign origins in `tests/transport/http/test_origin.py` and
`tests/transport/test_admission.py`.
"""

from __future__ import annotations

import json

import pytest
import pytest_twisted

from tests.client import EVENTS, Ended, handshake, request
from tests.node import TOKEN, Node, Nodes

MARK = "m4rk-of-the-attacker"


def smuggled(number: int) -> bytes:
    """A request that must never take effect, as it is part of another one's body."""
    return request("POST", EVENTS, TOKEN, json.dumps({"eventType": "smuggled", "data": number}).encode())


async def silence_after(node: Node, data: bytes) -> list[int]:
    """Send this, read until the end, and return the status of each answer; no smuggled request may have an effect."""
    watcher = await node.client()
    await watcher.subscribe("**")
    wire = await node.wire(data)
    answers = await wire.rest()
    assert await watcher.heard() == []
    watcher.drop()
    return [int(line.split()[1]) for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("later", [False, True], ids=["first", "later"])
@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (["Content-Length: 4", "Transfer-Encoding: chunked"], b"0\r\n\r\n"),
        (["Transfer-Encoding: chunked", "Content-Length: 4"], b"0\r\n\r\n"),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], b"0\r\n\r\n"),
        (["Transfer-Encoding: xchunked"], b"0\r\n\r\n"),
        (["Transfer-Encoding: chunked, identity"], b"0\r\n\r\n"),
        (["Transfer-Encoding: identity, chunked"], b"0\r\n\r\n"),
        (["Content-Length: 0", "Content-Length: 500"], b""),
        (["Content-Length: 0, 500"], b""),
        (["Content-Length: +0"], b""),
        (["Content-Length: 0x0"], b""),
        (["Content-Length: 0_0"], b""),
        (["Content-Length: -0"], b""),
        (["Content-Length: "], b""),
        (["Content-Length: " + "0" * 5000], b""),
        (["Content-Length: " + "9" * 5000], b""),
        (["Transfer-Encoding: chunked"], b"0x5\r\nhello\r\n0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"+5\r\nhello\r\n0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"-1\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"5 \nhello\r\n0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"5\nhello\n0\n\n"),
        (["Transfer-Encoding: chunked"], b"5;" + b"x" * 20_000 + b"\r\nhello\r\n0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"5\r\nhelloXX0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"F" * 2000 + b"\r\n"),
        (["Transfer-Encoding: chunked"], b"\xff\xff\r\n"),
        (["Transfer-Encoding : chunked"], b"0\r\n\r\n"),
        (["Content-Length : 0"], b""),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_body_of_which_two_lengths_can_be_believed_ends_the_connection(
    nodes: Nodes, fields: list[str], body: bytes, later: bool
) -> None:
    """Whether the door reads it or, behind another request, only Twisted Web."""
    node = await nodes()
    before = request("GET", "/health/live", None) if later else b""
    head = "\r\n".join([f"POST {EVENTS}?token={TOKEN} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()
    statuses = await silence_after(node, before + head + body + smuggled(1))
    if later:
        assert statuses.pop(0) == 200
    assert len(statuses) <= 1 and all(status >= 400 for status in statuses)


@pytest_twisted.ensureDeferred
async def test_requests_that_are_pipelined_are_answered_in_order_whatever_each_of_them_takes(nodes: Nodes) -> None:
    node = await nodes()
    watcher = await node.client()
    await watcher.subscribe("piped")
    parts: list[bytes] = []
    wanted: list[int] = []
    for number in range(50):
        parts.append(request("POST", EVENTS, TOKEN, json.dumps({"eventType": "piped", "data": number}).encode()))
        parts.append(request("GET", "/nowhere", None))
        chunked = b'%x\r\n{"eventType":"piped",\r\n%x\r\n"data":%03d}\r\n0\r\n\r\n' % (21, 11, number + 100)
        parts.append(request("POST", EVENTS, TOKEN, headers=["Transfer-Encoding: chunked"]) + chunked)
        parts.append(request("GET", "/health/live", None))
        wanted += [200, 404, 200, 200]
    wire = await node.wire(b"".join(parts))
    assert [(await wire.response()).status for _ in wanted] == wanted
    heard = [message["data"] for message in await watcher.heard()]
    assert heard == [number + more for number in range(50) for more in (0, 100)]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE", "OPTIONS", "TRACE", "CONNECT", MARK.upper()])
@pytest.mark.parametrize(
    "target",
    [
        f"/{MARK}",
        f"/?{MARK}={MARK}",
        f"//{MARK}.example/..",
        f"{EVENTS}/{MARK}",
        f"{EVENTS}?{MARK}&redirect=http://{MARK}.example&next={MARK}",
        f"/<script>{MARK}</script>",
        f"/%0d%0aSet-Cookie:%20{MARK}",
        f"http://{MARK}.example/",
        f"http://{MARK}.example{EVENTS}",
    ],
)
async def test_nothing_of_the_request_comes_back_in_an_answer(nodes: Nodes, method: str, target: str) -> None:
    """Neither path nor query, Host, other fields or body; so there is nothing to redirect to and nothing to inject."""
    node = await nodes()
    lines = [
        f"{method} {target} HTTP/1.1", f"Host: {MARK}.example", f"X-Forwarded-Host: {MARK}.example", f"Forwarded: host={MARK}",
        f"X-Original-URL: /{MARK}", f"Referer: http://{MARK}.example/", f"User-Agent: {MARK}", f"Cookie: {MARK}={MARK}",
        f"Accept: {MARK}", f"Content-Type: {MARK}", f"Authorization: Bearer {MARK}", f"Idempotency-Key: {MARK}",
        "Connection: close", f"Content-Length: {len(MARK)}", "", MARK,
    ]  # fmt: skip
    wire = await node.wire("\r\n".join(lines).encode())
    answer = await wire.rest()
    assert answer.startswith(b"HTTP/1.1 ")
    assert MARK.encode() not in answer.lower()
    assert b"location:" not in answer.lower() and b"set-cookie:" not in answer.lower()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "words",
    [
        {"target": f"/{MARK}"},
        {"target": f"{EVENTS}?{MARK}"},
        {"protocols": [MARK]},
        {"headers": [f"Origin: http://{MARK}.example"]},
        {"headers": [f"Sec-WebSocket-Version: {MARK}"], "drop": ["Sec-WebSocket-Version"]},
        {"headers": [f"Sec-WebSocket-Key: {MARK}"], "drop": ["Sec-WebSocket-Key"]},
        {"headers": [f"Sec-WebSocket-Extensions: {MARK}"]},
        {"headers": [f"Connection: {MARK}"], "drop": ["Connection"]},
        {"headers": [f"Host: {MARK}"], "drop": ["Host"]},
        {"headers": [f"Cookie: {MARK}", f"X: {MARK}"], "token": MARK},
    ],
    ids=str,
)
async def test_nothing_of_a_handshake_comes_back_in_its_answer(nodes: Nodes, words: dict[str, object]) -> None:
    node = await nodes()
    wire = await node.wire(handshake(**words))  # type: ignore[arg-type]
    assert MARK.encode() not in await wire.until(b"\r\n\r\n")
    wire.write(b"\x88\x80abcd")
    assert MARK.encode() not in await wire.rest()


@pytest_twisted.ensureDeferred
async def test_thousands_of_headers_are_read_up_to_the_limit_and_refused_beyond(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client(headers=["a: b"] * 2000)
    assert (await client.ask(type="ping"))["type"] == "pong"
    assert (await node.http("GET", "/health/live", headers=["a: b"] * 400)).status == 200
    assert (await node.http("GET", "/health/live", headers=["a: b"] * 2000)).status == 200
    assert (await node.http("GET", "/health/live", headers=["a: b"] * 3000)).status == 431
    for line in ("a:" + "b" * 6, "Connection: Upgrade"):
        assert (await node.refusal(headers=[line] * 2000)).status == 431


@pytest_twisted.ensureDeferred
async def test_a_token_of_a_megabyte_is_cut_off_before_anybody_looks_at_it(nodes: Nodes) -> None:
    node = await nodes()
    token = "x" * 1_000_000
    assert (await node.refusal(token=token)).status == 431
    assert (await node.refusal(target=f"{EVENTS}?token={token}")).status == 431
    assert (await node.refusal(protocols=["nexus.v1.json", f"nexus.bearer.{token}"])).status == 431


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("field", ["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Upgrade", "Connection", "Cookie"])
@pytest.mark.parametrize("filling", [" ", "\t", ",", " ,", "a,", ";", '"', "=", "(", "\\"])
async def test_a_field_as_long_as_it_may_be_is_read_at_once(nodes: Nodes, field: str, filling: str) -> None:
    node = await nodes()
    value = (filling * 16_000)[:15_000]
    wire = await node.wire(handshake(token=TOKEN, headers=[f"{field}: x{value}x"]))
    response = await wire.response()
    assert response.status in (101, 400, 426)
    assert (await node.refusal(headers=[f"{field}: x{value * 3}x"])).status == 431


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("value", ["nexus.v1.jsön", "\xff\xfe", "nexus.v1.json\x00", "a\x85b", "\u00a0", "nexus.v1.json,\x80"])
async def test_a_subprotocol_beyond_ascii_is_refused(nodes: Nodes, value: str) -> None:
    node = await nodes()
    assert (await node.refusal(token=TOKEN, headers=[f"Sec-WebSocket-Protocol: {value}"])).status == 400


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("length", [2**63, 2**63 + 1, 2**64 - 1])
@pytest.mark.parametrize("first", [0x81, 0x82, 0x01, 0x88, 0x89])
async def test_a_length_with_its_top_bit_set_ends_the_connection_before_anything_is_kept(
    nodes: Nodes, first: int, length: int
) -> None:
    node = await nodes()
    client = await node.client()
    client.write(bytes([first, 0xFF]) + length.to_bytes(8, "big") + b"mask")
    with pytest.raises(Ended) as ended:
        await client.message()
    assert ended.value.code in (1002, 1009)
