"""The opening of an HTTP/1.1 request: a header block, checked byte by byte before any other part reads it.

The parsers after this one split lines at more characters than CR LF (Autobahn at all that Python calls a line end), so a byte
that they take for a line end would smuggle in a header. None of them gets the client's bytes: they get rewritten lines
with the few fields that they need, in ASCII. RFC 9110 section 5.5 allows octets above 0x7f in values and calls them
opaque: a field that Nexus does not read may contain them and is ignored, one that Nexus reads may not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote, unquote_plus

from nexus_tw.auth.carriers import PARAMETER
from nexus_tw.model.errors import NexusError

CRLF: Final = b"\r\n"
END: Final = b"\r\n\r\n"

EVENTS: Final = "/api/v1/events"
EVENT_STREAM: Final = "text/event-stream"
LAST_ID: Final = "last-event-id"

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEAD: Final = re.compile(
    rb"(?P<method>%s) (?P<target>[\x21-\x7e]+) HTTP/1\.(?P<minor>[01])\r\n(?P<fields>(?:%s:[\t\x20-\x7e\x80-\xff]*\r\n)*)\r\n\Z"
    % (_TOKEN, _TOKEN)
)
_ABSOLUTE: Final = re.compile(r"(?i)https?://[^/?]*")
# RFC 3986 section 3.2.2. Beyond it, an IPv6 address may lack its brackets, as Autobahn|Python sends it; no origin does.
_HOST: Final = re.compile(
    r"(?:\[[0-9A-Za-z:.%]+\]|(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f.]*|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::[0-9]*)?\Z"
)
_LENGTH: Final = re.compile(r"[0-9]{1,20}\Z")  # no body is longer, and Python limits the digits of an integer

# The fields that a handshake is judged by, after its address, Host and Origin (RFC 6455 section 4.2.1).
_HANDSHAKE: Final = ("upgrade", "connection", "sec-websocket-version", "sec-websocket-key", "sec-websocket-extensions")
# The fields that tell an HTTP parser where a request ends.
_FRAMING: Final = ("content-length", "transfer-encoding", "expect")
_READ: Final = frozenset(
    {
        *_HANDSHAKE,
        *_FRAMING,
        "accept",
        "authorization",
        "content-encoding",
        "host",
        "idempotency-key",
        LAST_ID,
        "origin",
        "sec-websocket-protocol",
        "x-forwarded-for",
    }
)


class Opening:
    """A request line and its header fields, names in lower case.

    The values of a repeated field are joined by commas (RFC 9110 section 5.3) and its name is in `repeated`. A field with
    octets beyond ASCII is not in `headers` but in `opaque`. `address` is the path as written, `path` the same without
    percent-encoding, `head` the whole block as received.
    """

    __slots__ = ("address", "head", "headers", "method", "minor", "opaque", "path", "query", "repeated")

    def __init__(
        self,
        head: bytes,
        method: str,
        target: str,
        minor: int,
        headers: dict[str, str],
        repeated: frozenset[str],
        opaque: frozenset[str],
    ) -> None:
        target, _, query = origin_form(target).partition("?")
        self.head = head
        self.method = method
        self.address = target
        self.path = unquote(target)
        self.query = query
        self.minor = minor
        self.headers = headers
        self.repeated = repeated
        self.opaque = opaque

    @property
    def upgrade(self) -> bool:
        """Whether this requests a WebSocket (RFC 6455 section 4.2.1); the rest of the handshake is checked later."""
        return self.method == "GET" and self.minor == 1 and "websocket" in self.listed("upgrade")

    @property
    def event_stream(self) -> bool:
        """Whether this requests Server-Sent Events: then the connection carries nothing else after it."""
        if self.method != "GET" or self.address != EVENTS or self.upgrade:
            return False
        framed = "content-length" in self.headers or "transfer-encoding" in self.headers
        return not framed and any(word.partition(";")[0].rstrip(" \t") == EVENT_STREAM for word in self.listed("accept"))

    def listed(self, name: str) -> list[str]:
        """Return the elements of a field that is a list, in lower case, without empty ones (RFC 9110 section 5.6.1.2)."""
        return [word for word in (part.strip(" \t") for part in self.headers.get(name, "").lower().split(",")) if word]

    def parameters(self) -> dict[str, list[str]]:
        """Return the query's members; those without a value are left out.

        A `+` is a space, as in forms, but not in a token: a token contains no space and may contain a `+`.
        """
        found: dict[str, list[str]] = {}
        for member in self.query.split("&"):
            name, _, value = member.partition("=")
            if value:
                name = unquote_plus(name)
                found.setdefault(name, []).append(unquote(value) if name == PARAMETER else unquote_plus(value))
        return found

    @property
    def subprotocols(self) -> list[str]:
        offered = self.headers.get("sec-websocket-protocol", "")
        return [name for name in (part.strip() for part in offered.split(",")) if name]

    def fault(self) -> str | None:
        """Return the violation of HTTP in these fields as `FIELD: WHY`, or None."""
        headers = self.headers
        if "#" in self.address or "#" in self.query:
            return "request-target: holds a fragment, which stays with the client"  # RFC 9112 section 3.2
        unreadable = sorted(self.opaque & _READ)
        if unreadable:
            return f"{unreadable[0]}: holds octets beyond ASCII"
        host = headers.get("host")
        if host is None:
            return "host: is missing" if self.minor else None  # RFC 9112 section 3.2; HTTP/1.0 did not know it
        if "host" in self.repeated:
            return "host: is there more than once"
        if _HOST.match(host) is None:
            return "host: is not a host with an optional port"
        return self._unframed()

    def _unframed(self) -> str | None:
        # The end of the body must be clear to every parser on the way (RFC 9112 section 6.3).
        coding, length = self.headers.get("transfer-encoding"), self.headers.get("content-length")
        if coding is not None and (coding.lower() != "chunked" or not self.minor):
            return "transfer-encoding: is not chunked, which is all that HTTP/1.1 knows and HTTP/1.0 does not"
        if length is not None and _LENGTH.match(length) is None:
            return "content-length: is not one number"
        if coding is not None and length is not None:
            return "content-length: stands beside transfer-encoding"
        return None

    # --- the same, rewritten for the parsers behind

    def handshake(self) -> bytes:
        """Return a header block for a WebSocket parser: RFC 6455's own fields, with a fixed address and Host."""
        offered = ", ".join(self.subprotocols)
        fields = [f"{name}: {self.headers[name]}" for name in _HANDSHAKE if name in self.headers]
        if offered:
            fields.append(f"sec-websocket-protocol: {offered}")
        return "\r\n".join(["GET / HTTP/1.1", "host: nexus", *fields, "", ""]).encode("ascii")

    def lines(self) -> Iterator[bytes]:
        """Return lines for an HTTP parser: the request line, with a fixed address, and the fields that frame the body."""
        yield f"{self.method} / HTTP/1.{self.minor}".encode("ascii")
        for name in _FRAMING:
            if name in self.headers:
                yield f"{name}: {self.headers[name]}".encode("ascii")
        if "close" in self.listed("connection"):
            yield b"connection: close"


def origin_form(target: str) -> str:
    """Return a request target without its host; every server must accept a whole URL (RFC 9112 section 3.2.2)."""
    match = _ABSOLUTE.match(target)
    if match is None:
        return target
    rest = target[match.end() :]
    return rest if rest.startswith("/") else f"/{rest}"


class Oversized(NexusError):
    """Raised for a header block that is too large."""

    status = 431

    def __init__(self) -> None:
        super().__init__("too_large", "The request's header block is too large")


def measure(data: bytes, known: int, largest: int) -> tuple[int, int]:
    """Return the begin and the end of the header block at the beginning of `data`; the end is 0 if the block is incomplete.

    The first `known` bytes were searched before. Raise `Oversized` if the block is longer than `largest`. One empty line
    before the request is ignored (RFC 9112 section 2.2); a second one is a block without a request line.
    """
    begin = len(CRLF) if data.startswith(CRLF) else 0
    if data.startswith(CRLF, begin):
        return begin, begin + len(CRLF)
    found = data.find(END, max(begin, known - len(END) + 1))
    end = found + len(END) if found >= 0 else 0
    if (end or len(data)) - begin > largest:
        raise Oversized
    return begin, end


def read(head: bytes) -> Opening:
    """Return the opening of a block that ends with the empty line. Raise `invalid_message`, which names the fault."""
    opening = parse(head)
    if opening is None:
        raise NexusError("invalid_message", "The request's header block contains forbidden bytes or an invalid line (RFC 9110)")
    fault = opening.fault()
    if fault is not None:
        raise NexusError("invalid_message", f"Not a request of HTTP/1.1 (RFC 9112): {fault}")
    return opening


def parse(head: bytes) -> Opening | None:
    """Return the opening, or None if the block contains anything forbidden. `head` ends with the empty line."""
    match = _HEAD.match(head)
    if match is None:
        return None
    headers: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}  # joined in the end: thousands of values would be copied for each
    opaque: set[str] = set()
    for line in match["fields"].decode("latin-1").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        name = name.lower()
        value = value.strip(" \t")
        if not value.isascii():
            opaque.add(name)
        if name in headers:
            repeated.setdefault(name, [headers[name]]).append(value)
        else:
            headers[name] = value
    for name, values in repeated.items():
        headers[name] = ",".join(values)
    for name in opaque:
        del headers[name]
    return Opening(
        head,
        match["method"].decode(),
        match["target"].decode(),
        int(match["minor"]),
        headers,
        frozenset(repeated),
        frozenset(opaque),
    )
