"""The opening of an HTTP/1.1 connection: a header block, checked byte by byte before anybody else reads it.

Parsers behind this one split lines at more characters than CR LF (Autobahn at all that Python calls a line end), so a byte
that they take for a line end would smuggle in a header. Only the bytes of RFC 9110 fields in ASCII pass: HTAB and 0x20 to
0x7e in values, tokens as names, no folding, CR LF as line ends.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, unquote

END: Final = b"\r\n\r\n"

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEAD: Final = re.compile(
    rb"(?P<method>%s) (?P<target>[\x21-\x7e]+) HTTP/1\.(?P<minor>[01])\r\n(?P<fields>(?:%s:[\t\x20-\x7e]*\r\n)*)\r\n\Z"
    % (_TOKEN, _TOKEN)
)
_ABSOLUTE: Final = re.compile(r"(?i)https?://[^/]*")


class Opening:
    """A request line and its header fields, names in lower case; of a repeated field the values are joined by commas."""

    __slots__ = ("headers", "method", "minor", "path", "query", "repeated")

    def __init__(self, method: str, target: str, minor: int, headers: dict[str, str], repeated: frozenset[str]) -> None:
        path, _, query = target.partition("?")
        self.method = method
        self.path = unquote(origin_form(path))
        self.query = query
        self.minor = minor
        self.headers = headers
        self.repeated = repeated

    @property
    def upgrade(self) -> bool:
        """Whether this asks for a WebSocket (RFC 6455 section 4.2.1); the rest of the handshake is checked later."""
        return self.method == "GET" and self.minor == 1 and names_websocket(self.headers.get("upgrade", ""))

    def parameters(self) -> dict[str, list[str]]:
        """The query's members; those without a value are left out."""
        found: dict[str, list[str]] = {}
        for name, value in parse_qsl(self.query):
            found.setdefault(name, []).append(value)
        return found

    @property
    def subprotocols(self) -> list[str]:
        offered = self.headers.get("sec-websocket-protocol", "")
        return [name for name in (part.strip() for part in offered.split(",")) if name]


def names_websocket(upgrade: str) -> bool:
    """Whether an `Upgrade` field names the WebSocket protocol among others."""
    return "websocket" in (word.strip() for word in upgrade.lower().split(","))


def origin_form(path: str) -> str:
    """The path of a request target that may be a whole URL, which no server may refuse (RFC 9112 section 3.2.2)."""
    match = _ABSOLUTE.match(path)
    return path if match is None else path[match.end() :] or "/"


def parse(head: bytes) -> Opening | None:
    """The opening, or None where the block holds anything that it must not. `head` ends with the empty line."""
    match = _HEAD.match(head)
    if match is None:
        return None
    headers: dict[str, str] = {}
    repeated: set[str] = set()
    for line in match["fields"].decode("ascii").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        name = name.lower()
        value = value.strip(" \t")
        if name in headers:
            repeated.add(name)
            headers[name] += f",{value}"
        else:
            headers[name] = value
    return Opening(match["method"].decode(), match["target"].decode(), int(match["minor"]), headers, frozenset(repeated))
