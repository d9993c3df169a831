"""The input of a fuzzed connection: random, and mostly almost valid, since entirely invalid input is refused at the first byte.

Everything is derived from the given `Random`, so that the same seed gives the same bytes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

from tests.client import EVENTS, frame

Stream = Callable[[Random, str], list[bytes]]
"""Pieces to send, each in a write of its own, from a source of chance and a valid token."""

CODES = (999, 1000, 1005, 1006, 1015, 2999, 4999, 65535)
LENGTHS = (2**63, 2**62, 2**64 - 1, 70000, 5)
BORDERS = (0, 1, 125, 126, 127, 1023, 65535, 65536, 65537)
ODD_BYTES = b"\x00\x01\t\n\x0b\x0c\r\x1c\x1d\x1e \x7f\x80\x85\xa0\xc3\xff"
TEXTS = (
    "a", "a.b", "task.updated", "nexus.x", "wamp.x", "*", "**", "a.*", "a.**", "*.a", "**.a", ".", "a..b", "", " ", "a b", "#",
    "fuzz", "agent-1", "deploy", "client-x", "é", "e\u0301", "😀", "\u202e", "\u2028", "\0", "\ud800", "x" * 255, "x" * 256,
    "*." * 100 + "a", "a." * 100 + "**", "{subject}", "../../etc/passwd", "%s%n", "${jndi:x}", "<script>",
    "'; DROP TABLE x", "1e400",
)  # fmt: skip
NUMBERS = ("0", "-0", "1", "-1", "1.5", "1e400", "-1e-400", "9" * 30, "9" * 5000, str(2**53), str(2**63), str(-(2**64)), "1E+2")
MEMBERS = (
    "type", "id", "events", "filters", "since", "eventType", "data", "agentId", "metrics", "timestamp", "command", "parameters",
    "target", "commandId", "timeout", "ttl", "retries", "commands", "status", "message", "gt", "in", "ne", "prefix", "exists",
    "cpu",
)  # fmt: skip
MESSAGES: tuple[dict[str, Any], ...] = (
    {"type": "subscribe", "events": ["a.b", "a.*"], "filters": {"n": {"gt": 1}}},
    {"type": "subscribe", "events": ["**"], "since": {"a": "E:1"}},
    {"type": "unsubscribe", "events": ["a.b"]},
    {"type": "ping"},
    {"type": "pong"},
    {"type": "publish", "eventType": "a.b", "data": {"n": 2}},
    {"type": "telemetry", "agentId": "agent-1", "metrics": {"cpu": 1, "disk": {"root": 0.5}}},
    {"type": "telemetry", "agentId": "agent-1", "metrics": {"cpu": 1}, "timestamp": "2026-01-01T00:00Z"},
    {"type": "command", "command": "deploy", "parameters": {}, "timeout": 0.2, "commandId": "c-1"},
    {"type": "command", "command": "deploy", "target": ["agent-1", "agent-2"], "ttl": 0.2, "retries": 1},
    {"type": "cancel", "commandId": "c-1"},
    {"type": "register", "commands": ["deploy"], "agentId": "agent-1"},
    {"type": "register", "commands": ["deploy", "restart"]},
    {"type": "unregister", "commands": ["deploy"]},
    {"type": "command_progress", "commandId": "c-1", "data": 50},
    {"type": "command_result", "commandId": "c-1", "status": "success", "data": {"ok": True}},
)
METHODS = ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "CONNECT", "TRACE", "get", "X" * 100, "G\x00T")
TARGETS = (
    EVENTS, "/", "/health/live", "/health/ready", "/metrics", "/api/v1/broadcast", "/api/v1/commands", "/echo", "*", "//",
    "/%00", "/../..", "/api/v1/events?" + "a&" * 500, "http://elsewhere.example/", "/api/v1/events#x", "/%ff%fe",
    "elsewhere.example:443",
    "/" + "x" * 5000,
)  # fmt: skip
BODIES = (
    b"", b"hello", b'{"eventType":"a.b","data":1}', b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\nx", b"-5\r\n", b"[" * 5000,
)  # fmt: skip
FIELDS = (
    "Content-Length: 5", "Content-Length: -1", "Content-Length: 99999999999999999999", "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked", "Expect: 100-continue", "Connection: close", "Connection: Upgrade",
    "Upgrade: websocket", "Upgrade: h2c", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Key: x",
    "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 99",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99",
    "Sec-WebSocket-Protocol: nexus.v1.json", "Sec-WebSocket-Protocol: " + ", " * 1000, "Origin: null",
    "Origin: http://evil.example",
    "X-Forwarded-For: 1.2.3.4, x", "Host: evil.example", "Host: ", "Idempotency-Key: k", "Authorization: Bearer x",
    "Cookie: " + "a=b; " * 500,
    " folded: x", "no colon", ": no name", "X-Long: " + "y" * 15000,
)  # fmt: skip


def noise(random: Random, _token: str) -> list[bytes]:
    """Return random bytes."""
    return [random.randbytes(random.choice(BORDERS[:6])) for _ in range(random.randint(1, 4))]


def openings(random: Random, token: str) -> list[bytes]:
    """Return a handshake with errors: fields added, doubled or removed, bytes changed, truncated anywhere."""
    lines = _opening(token).split("\r\n")[:-2]
    for _ in range(random.randint(0, 3)):
        change = random.randrange(3)
        if change == 0:
            lines.insert(random.randint(1, len(lines)), random.choice(FIELDS))
        elif change == 1:
            lines.append(random.choice(lines[1:]))
        else:
            del lines[random.randrange(1, len(lines))]
            lines.append("X: y")
    data = spoiled(random, "\r\n".join([*lines, "", ""]).encode("latin-1")) + b"".join(_frames(random, 3))
    return cut(random, data)


def frames(random: Random, token: str) -> list[bytes]:
    """Return a session with invalid frames: headers, lengths, masks, fragments, closes."""
    data = b"".join(_frames(random, random.randint(1, 30)))
    offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if random.random() < 0.5 else ""
    return [_opening(token, offer).encode(), *cut(random, spoiled(random, data) if random.random() < 0.5 else data)]


def messages(random: Random, token: str) -> list[bytes]:
    """Return a session with valid frames and invalid messages."""
    texts = [message(random) for _ in range(random.randint(1, 60))]
    return [_opening(token).encode(), *cut(random, b"".join(frame(1, text) for text in texts))]


def requests(random: Random, token: str) -> list[bytes]:
    """Return pipelined HTTP requests, with bodies that may differ from the announced ones."""
    return cut(random, b"".join(_request(random, token) for _ in range(random.randint(1, 4))))


STREAMS: tuple[Stream, ...] = (noise, openings, frames, messages, requests)


def message(random: Random) -> bytes:
    """Return a message of the protocol with parts replaced, as text that may be invalid JSON."""
    body = dict(random.choice(MESSAGES))
    if random.random() < 0.3:
        body["id"] = random.choice([1, "q", None, [], 1.5, 2**70])
    marks: dict[str, str] = {}
    for _ in range(random.choice((0, 0, 1, 1, 2, 3))):
        name = random.choice([*body, random.choice(MEMBERS)])
        mark = f"mark-{len(marks)}"
        body[name] = mark
        marks[json.dumps(mark)] = _value(random, 0)
    text = json.dumps(body)
    for mark, value in marks.items():
        text = text.replace(mark, value)
    # What is no UTF-8 ends a connection, so it must be rare for others to get further.
    data = text.encode("utf-8", "surrogatepass" if random.random() < 0.02 else "replace")
    return spoiled(random, data) if random.random() < 0.1 else data


def spoiled(random: Random, data: bytes) -> bytes:
    """Return the bytes with a few changed, inserted, removed or doubled."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 3)):
        place = random.randint(0, len(changed))
        change = random.randrange(4)
        if change == 0:
            changed[place : place + 1] = bytes([random.choice(ODD_BYTES)])
        elif change == 1:
            changed[place:place] = random.randbytes(random.randint(1, 8))
        elif change == 2:
            del changed[place : place + random.randint(1, 16)]
        else:
            changed[place:place] = changed[place : place + random.randint(1, 64)]
    return bytes(changed)


def cut(random: Random, data: bytes) -> list[bytes]:
    """Return the bytes in up to eight pieces."""
    places = sorted(random.randint(0, len(data)) for _ in range(random.randrange(8)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def _opening(token: str, more: str = "") -> str:
    return (
        f"GET {EVENTS} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {token}\r\n{more}\r\n"
    )


def _frames(random: Random, count: int) -> list[bytes]:
    return [_frame(random) for _ in range(count)]


def _frame(random: Random) -> bytes:
    kind = random.randrange(9)
    if kind < 3:
        return frame(1, message(random), fin=random.random() < 0.8)
    if kind == 3:
        return frame(random.randrange(16), random.randbytes(random.choice(BORDERS)), fin=random.random() < 0.7)
    if kind == 4:
        return frame(random.choice((0, 8, 9, 10)), random.randbytes(random.choice((0, 1, 2, 125, 126))))
    if kind == 5:
        return frame(8, random.choice(CODES).to_bytes(2, "big") + random.randbytes(3))
    if kind == 6:  # a length that is announced and never comes, the top bit set among them
        return bytes([random.randrange(256), 0x80 | 127]) + random.choice(LENGTHS).to_bytes(8, "big")
    if kind == 7:  # compressed (RFC 7692): what becomes a message, what becomes too much, and what is none
        deflate = zlib.compressobj(wbits=-15)
        payload = deflate.compress(random.choice((message(random), b" " * 1_000_000))) + deflate.flush(zlib.Z_SYNC_FLUSH)
        return frame(0x40 | random.choice((1, 1, 1, 0)), random.choice((payload[:-4], payload[:-4], payload, payload[5:])))
    return bytes([random.randrange(256), random.randrange(256)]) + random.randbytes(random.randrange(20))


def _request(random: Random, token: str) -> bytes:
    target = random.choice(TARGETS)
    if random.random() < 0.6:
        target += f"?token={token}"
    lines = [f"{random.choice(METHODS[:5] if random.random() < 0.8 else METHODS)} {target} HTTP/1.{random.choice('1111102')}"]
    lines += ["Host: localhost", *random.choices(FIELDS, k=random.randrange(4))]
    body = random.choice((*BODIES, message(random)))
    if random.random() < 0.6:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return (spoiled(random, head) if random.random() < 0.3 else head) + body


def _value(random: Random, depth: int) -> str:
    kind = random.randrange(10)
    if kind == 0:
        return random.choice(("null", "true", "false", "NaN", "{", "]", "'x'", "\x00"))
    if kind < 3:
        return random.choice(NUMBERS)
    if kind < 6 or depth > 4:
        return json.dumps(random.choice(TEXTS), ensure_ascii=random.random() < 0.5)
    if kind == 6:
        deep = random.choice((31, 33, 100, 1000, 20000))
        return "[" * deep + "1" + "]" * deep
    if kind == 7:
        return "{" + ",".join(f'"k{number}":{number}' for number in range(random.choice((0, 1, 65, 1000, 5000)))) + "}"
    values = [_value(random, depth + 1) for _ in range(random.randrange(4))]
    if kind == 8:
        return "[" + ",".join(values) + "]"
    return "{" + ",".join(f"{json.dumps(random.choice(MEMBERS + TEXTS))}:{value}" for value in values) + "}"
