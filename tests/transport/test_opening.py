from __future__ import annotations

import time
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexus_tw.auth.carriers import find_token
from nexus_tw.model.errors import NexusError
from nexus_tw.transport.opening import END, Opening, Oversized, measure, parse, read

UPGRADE = (
    b"GET /api/v1/events?token=t HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
LEGAL = {0x09, *range(0x20, 0x7F), *range(0x80, 0x100)}  # in a field's value: RFC 9110 section 5.5
TOKEN = set(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def opened(head: bytes) -> Opening:
    opening = parse(head)
    assert opening is not None
    return opening


def with_field(field: bytes) -> bytes:
    return UPGRADE[:-2] + field + b"\r\n\r\n"


def test_an_upgrade_is_read() -> None:
    opening = opened(UPGRADE)
    assert (opening.method, opening.path, opening.query, opening.minor) == ("GET", "/api/v1/events", "token=t", 1)
    assert opening.headers["host"] == "example.com"
    assert opening.headers["sec-websocket-key"] == "dGhlIHNhbXBsZSBub25jZQ=="
    assert opening.parameters() == {"token": ["t"]}
    assert opening.upgrade and not opening.repeated


@pytest.mark.parametrize("byte", range(256))
def test_only_the_bytes_of_a_field_pass_in_a_value(byte: int) -> None:
    assert (parse(with_field(b"X-A: before%cafter" % byte)) is not None) == (byte in LEGAL)


@pytest.mark.parametrize("byte", range(256))
def test_only_the_bytes_of_a_token_pass_in_a_name(byte: int) -> None:
    assert (parse(with_field(b"X%cA: b" % byte)) is not None) == (byte in TOKEN or byte == ord(":"))


@pytest.mark.parametrize("byte", range(256))
def test_only_printable_ascii_passes_in_a_target(byte: int) -> None:
    assert (parse(UPGRADE.replace(b"token=t", b"token=%c" % byte)) is not None) == (0x21 <= byte <= 0x7E)


# What `str.splitlines` splits at, as single bytes and as UTF-8, and what else was ever taken for a line end.
LINE_ENDS = [b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\n", b"\r", b"\0"]
OPAQUE_LINE_ENDS = [b"\x85", "\x85".encode(), "\u2028".encode(), "\u2029".encode()]


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_what_another_parser_may_take_for_a_line_end_smuggles_nothing_in(line_end: bytes) -> None:
    assert parse(with_field(b"X-A: b" + line_end + b"Authorization: Bearer admin")) is None
    assert parse(UPGRADE.replace(b" HTTP/1.1", line_end + b"X-A: b HTTP/1.1")) is None


@pytest.mark.parametrize("line_end", OPAQUE_LINE_ENDS)
def test_an_opaque_octet_that_another_parser_may_take_for_a_line_end_reaches_none(line_end: bytes) -> None:
    opening = opened(with_field(b"X-A: b" + line_end + b"Authorization: Bearer admin"))
    assert opening.opaque == {"x-a"}
    assert not {"x-a", "authorization"} & opening.headers.keys()
    for told in (opening.handshake(), *opening.lines()):
        assert told.isascii() and b"admin" not in told
    assert parse(UPGRADE.replace(b" HTTP/1.1", line_end + b"X-A: b HTTP/1.1")) is None


@given(st.dictionaries(st.sampled_from(["cf-region", "Cookie", "Upgrade", "Expect"]), st.binary(max_size=30), max_size=4))
def test_what_the_parsers_behind_are_told_is_ascii_in_whole_lines(fields: dict[str, bytes]) -> None:
    opening = parse(UPGRADE[:-2] + b"".join(b"%b: %b\r\n" % (n.encode(), v) for n, v in fields.items()) + b"\r\n")
    if opening is None:
        return
    told = [*opening.handshake().decode("ascii").split("\r\n"), *(line.decode("ascii") for line in opening.lines())]
    assert all(line.isprintable() or "\t" in line for line in told)
    assert not any(len(line.splitlines()) > 1 for line in told)


@pytest.mark.parametrize("name", ["Host", "Origin", "Authorization", "Upgrade", "Content-Length", "Accept"])
def test_a_field_that_is_read_may_not_hold_opaque_octets(name: str) -> None:
    fault = opened(with_field(f"{name}: caf\xe9".encode("latin-1"))).fault()
    assert fault == f"{name.lower()}: holds octets beyond ASCII"


@pytest.mark.parametrize(
    ("fields", "minor", "fault"),
    [
        (b"", 1, "host: is missing"),
        (b"", 0, None),
        (b"Host:\r\n", 1, None),
        (b"Host: a\r\n", 0, None),
        (b"Host: a.example:3000\r\n", 1, None),
        (b"Host: a.example:\r\n", 1, None),
        (b"Host: [::1]:3000\r\n", 1, None),
        (b"Host: ::1:3000\r\n", 1, None),
        (b"Host: 2001:db8::ff00:42:8329\r\n", 1, None),
        (b"Host: ::ffff:192.0.2.1:3000\r\n", 1, None),
        (b"Host: a\r\nHost: a\r\n", 1, "host: is there more than once"),
        (b"Host: a\r\nhost: b\r\n", 0, "host: is there more than once"),
        (b"Host: a, b\r\n", 1, "host: is not a host with an optional port"),
        (b"Host: a/b\r\n", 1, "host: is not a host with an optional port"),
        (b"Host: user@a\r\n", 1, "host: is not a host with an optional port"),
        (b"Host: a:b\r\n", 1, "host: is not a host with an optional port"),
        (b"Host: a\r\nContent-Length: 1, 1\r\n", 1, "content-length: is not one number"),
        (b"Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n", 1, "content-length: stands beside"),
        (b"Host: a\r\nTransfer-Encoding: Chunked\r\n", 1, None),
    ],
)
def test_there_is_one_host_and_one_end_of_the_body(fields: bytes, minor: int, fault: str | None) -> None:
    """RFC 9112 sections 3.2 and 6.3."""
    head = b"GET / HTTP/1.%d\r\n" % minor + fields + b"\r\n"
    if fault is None:
        assert opened(head).fault() is None
        assert read(head).method == "GET"
    else:
        with pytest.raises(NexusError, match=fault):
            read(head)


def test_a_field_that_is_a_list_may_stand_on_several_lines() -> None:
    """RFC 9110 section 5.3; empty elements do not count."""
    opening = opened(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nUpgrade: WebSocket\r\nConnection: keep-alive,\r\nConnection:, Close\r\n"
        b"Sec-WebSocket-Extensions: foo\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
        b"Sec-WebSocket-Protocol: x,\r\nSec-WebSocket-Protocol: , y\r\n\r\n"
    )
    assert opening.upgrade
    assert opening.listed("connection") == ["keep-alive", "close"]
    assert b"\r\nsec-websocket-extensions: foo,permessage-deflate\r\n" in opening.handshake()
    assert b"\r\nsec-websocket-protocol: x, y\r\n" in opening.handshake()
    assert list(opening.lines()) == [b"GET / HTTP/1.1", b"connection: close"]


@pytest.mark.parametrize("character", [chr(code) for code in range(0x21, 0x7F)])
def test_every_character_that_is_legal_in_a_token_comes_through_the_query(character: str) -> None:
    token = f"a{character}b"
    literal = quote(token, safe="".join(set(map(chr, range(0x21, 0x7F))) - set("%&#")))
    for written in (quote(token, safe=""), literal):
        opening = opened(f"GET /a?x=1&token={written} HTTP/1.1\r\n\r\n".encode())
        assert opening.parameters()["token"] == [token]
        assert find_token({}, opening.parameters(), ()) == (token, [])


@pytest.mark.parametrize(
    "head",
    [
        b"\r\n\r\n",
        b"\r\n" + UPGRADE,
        b" " + UPGRADE,
        b"GET  /a HTTP/1.1\r\n\r\n",
        b"GET /a  HTTP/1.1\r\n\r\n",
        b"GET /a\tHTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1 \r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/2.0\r\n\r\n",
        b"GET /a HTTP/1.2\r\n\r\n",
        b"GET /a HTTP/1.10\r\n\r\n",
        b"GET /a http/1.1\r\n\r\n",
        b"GET /a\r\n\r\n",
        b"GET HTTP/1.1\r\n\r\n",
        b"G(T /a HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\n\n",
        b"GET /a HTTP/1.1\r\nHost: a\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\r\n\r\n",
        with_field(b" folded: line"),
        with_field(b"X-A: b\r\n folded"),
        with_field(b"X-A: b\r\n\tfolded"),
        with_field(b"no colon"),
        with_field(b": no name"),
        with_field(b"X-A : space before the colon"),
        with_field(b"X-A\t: tab before the colon"),
        with_field("X-é: text".encode()),
        with_field(b"X-A: before\0after"),
        with_field(b"X-A: a\r\n\r\nX-B: b"),
        UPGRADE + b"x",
        UPGRADE[:-2],
        UPGRADE[:-1],
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=lambda head: repr(head[-30:]),
)
def test_a_block_that_holds_what_it_must_not_is_refused(head: bytes) -> None:
    assert parse(head) is None


@pytest.mark.parametrize("field", [b"X-A:", b"X-A:b", b"X-A: \t b \t", b"X-A: a:b: c", b"x!#$%&'*+-.^_`|~9: \"quoted, text\""])
def test_unusual_fields_that_are_allowed_pass(field: bytes) -> None:
    name, _, value = field.partition(b":")
    assert opened(with_field(field)).headers[name.decode().lower()] == value.decode().strip(" \t")


@given(st.binary(max_size=60))
@example(b"GET / HTTP/1.1\r\n\r\n")
def test_any_bytes_are_an_opening_or_refused(head: bytes) -> None:
    for block in (head, head + END, UPGRADE[:40] + head + UPGRADE[40:]):
        opening = parse(block)
        if opening is not None:
            assert opening.handshake().isascii() and block.endswith(END) and block.count(END) == 1
            assert opening.parameters() is not None and opening.subprotocols is not None
            assert isinstance(opening.upgrade, bool)


@given(st.dictionaries(st.text("abcXYZ-", min_size=1, max_size=8), st.text("ab c,:\t", max_size=8), max_size=6))
def test_every_field_is_found_under_its_name_in_lower_case(fields: dict[str, str]) -> None:
    head = b"GET / HTTP/1.1\r\n" + b"".join(f"{n}: {v}\r\n".encode() for n, v in fields.items()) + b"\r\n"
    opening = opened(head)
    names = [name.lower() for name in fields]
    assert set(opening.headers) == set(names)
    assert opening.repeated == {name for name in names if names.count(name) > 1}
    for name in names:
        values = [value.strip(" \t") for other, value in fields.items() if other.lower() == name]
        assert opening.headers[name] == ",".join(values)


def test_of_a_field_that_is_there_twice_both_are_seen_and_it_is_known() -> None:
    opening = opened(with_field(b"Host: other.example"))
    assert opening.headers["host"] == "example.com,other.example"
    assert opening.repeated == {"host"}


@pytest.mark.parametrize(
    ("line", "upgrade"),
    [
        (b"Upgrade: websocket", True),
        (b"Upgrade: WebSocket", True),
        (b"upgrade: h2c, websocket", True),
        (b"Upgrade: h2c", False),
        (b"Upgrade: websocket2", False),
        (b"X-Upgrade: websocket", False),
    ],
)
def test_what_asks_for_a_websocket_is_an_upgrade(line: bytes, upgrade: bool) -> None:
    head = b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n"
    assert opened(head).upgrade is upgrade
    assert not opened(head.replace(b"GET", b"POST")).upgrade
    assert not opened(head.replace(b"1.1", b"1.0")).upgrade


@pytest.mark.parametrize(
    ("target", "path", "parameters"),
    [
        (b"/a%2Fb%20c", "/a/b c", {}),
        (b"/a?", "/a", {}),
        (b"/a?x=1&x=2&y=%C3%A9+z&empty=&flag", "/a", {"x": ["1", "2"], "y": ["é z"]}),
        (b"/a?x=%zz%ff", "/a", {"x": ["%zz\ufffd"]}),
        (b"/a?b?c=d", "/a", {"b?c": ["d"]}),
        (b"*", "*", {}),
    ],
)
def test_a_target_is_a_path_and_parameters(target: bytes, path: str, parameters: dict[str, list[str]]) -> None:
    opening = opened(b"GET " + target + b" HTTP/1.1\r\n\r\n")
    assert opening.path == path
    assert opening.parameters() == parameters


def test_offered_subprotocols_come_in_their_order_over_all_fields() -> None:
    head = with_field(b"Sec-WebSocket-Protocol: nexus.v1.json , nexus.bearer.T,,\r\nsec-websocket-protocol: x")
    assert opened(head).subprotocols == ["nexus.v1.json", "nexus.bearer.T", "x"]
    assert opened(UPGRADE).subprotocols == []


@pytest.mark.parametrize(
    "filling",
    [
        b"X: y\r\n" * 2700,
        b"X-A: " + b"y" * 16000 + b"\r\n",
        b"X:" + b" " * 16000 + b"\r\n",
        b"a:" * 8000 + b"\r\n",
        b"a" * 16000,
    ],
    ids=lambda filling: repr(filling[:12]),
)
def test_the_largest_block_is_read_or_refused_in_no_time(filling: bytes) -> None:
    begun = time.perf_counter()
    for _ in range(10):
        parse(b"GET / HTTP/1.1\r\n" + filling + b"\r\n")
        parse(b"GET / HTTP/1.1\r\n" + filling + b"\0\r\n\r\n")
    assert time.perf_counter() - begun < 1


def test_a_query_of_thousands_of_members_is_read_in_no_time() -> None:
    opening = opened(b"GET /a?" + b"&".join(b"a%d=b" % number for number in range(2000)) + b" HTTP/1.1\r\n\r\n")
    begun = time.perf_counter()
    assert len(opening.parameters()) == 2000
    assert time.perf_counter() - begun < 0.5


# --- where a header block ends

PLAIN = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (PLAIN, (0, len(PLAIN))),
        (PLAIN + PLAIN, (0, len(PLAIN))),
        (b"\r\n" + PLAIN + b"body", (2, 2 + len(PLAIN))),
        (b"\r\n\r\n" + PLAIN, (2, 4)),
        (PLAIN[:-1], (0, 0)),
        (b"\r", (0, 0)),
        (b"\r\n", (2, 0)),
    ],
)
def test_a_block_ends_with_its_first_empty_line_and_may_have_one_before_it(data: bytes, found: tuple[int, int]) -> None:
    assert measure(data, 0, 1000) == found


@given(st.integers(0, len(PLAIN) + 6))
def test_what_was_looked_at_before_is_not_looked_at_again(known: int) -> None:
    data = b"\r\n" + PLAIN + b"more"
    end = 2 + len(PLAIN)
    assert measure(data, min(known, end - 1), 1000) == (2, end)


def test_a_block_is_as_long_as_it_may_be_and_no_longer() -> None:
    assert measure(PLAIN + b"x" * 100, 0, len(PLAIN)) == (0, len(PLAIN))
    assert measure(b"\r\n" + PLAIN, 0, len(PLAIN)) == (2, 2 + len(PLAIN))
    for data in (PLAIN, PLAIN[:-1]):
        with pytest.raises(Oversized):
            measure(data, 0, len(PLAIN) - 2)


def test_thousands_of_values_of_one_field_are_joined_in_their_order() -> None:
    lines = b"".join(b"a: %d\r\n" % number for number in range(5000))
    opening = parse(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
    assert opening is not None
    assert opening.headers["a"] == ",".join(map(str, range(5000))) and opening.repeated == {"a"}
