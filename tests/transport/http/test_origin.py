"""The web pages that may connect: classic cross-site WebSocket hijacking, and more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.transport.http.origin import host_allowed, is_host, is_listable, origin_allowed, parse_origin


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://nexus.example", "nexus.example"),
        ("http://nexus.example", "nexus.example:80"),
        ("http://nexus.example:80", "nexus.example"),
        ("https://nexus.example", "nexus.example"),
        ("https://nexus.example", "nexus.example:443"),
        ("https://nexus.example:8443", "nexus.example:8443"),
        ("HTTPS://Nexus.Example", "NEXUS.example"),
        ("http://127.0.0.1:3000", "127.0.0.1:3000"),
        ("http://[::1]:3000", "[::1]:3000"),
        ("http://[2001:DB8::1]", "[2001:db8::1]"),
        ("http://localhost:3000", "localhost:3000"),
        ("ws://localhost:3000", "localhost:3000"),
        ("ws://nexus.example", "nexus.example:80"),
        ("wss://nexus.example:443", "nexus.example"),
    ],
)
def test_a_page_served_under_the_name_of_the_host_header_may_connect(origin: str, host: str) -> None:
    assert origin_allowed(origin, host, ())


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.example", "nexus.example"),
        ("http://nexus.example.evil.example", "nexus.example"),
        ("http://evilnexus.example", "nexus.example"),
        ("http://sub.nexus.example", "nexus.example"),
        ("http://nexus.example.", "nexus.example"),
        ("http://nexus.example:8080", "nexus.example"),
        ("http://nexus.example", "nexus.example:8080"),
        ("https://nexus.example", "nexus.example:80"),
        ("http://nexus.example", "nexus.example:443"),
        ("http://[::1]", "[::2]"),
        ("http://[::1]:3000", "[::1]"),
        ("http://::1", "::1"),
        ("ws://localhost:3000", "localhost:3001"),
        ("wss://nexus.example", "nexus.example:80"),
        ("ftp://nexus.example", "nexus.example"),
    ],
)
def test_another_host_or_port_may_not(origin: str, host: str) -> None:
    assert not origin_allowed(origin, host, ())


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "nexus.example",
        "//nexus.example",
        "http:nexus.example",
        "http://",
        "http:///",
        "file://",
        "http://nexus.example/",
        "http://nexus.example/path",
        "http://nexus.example?x",
        "http://nexus.example#x",
        "http://user@nexus.example",
        "http://user:pass@nexus.example",
        "http://nexus.example@evil.example",
        "http://nexus.example\\@evil.example",
        "http://nexus.example http://evil.example",
        "http://nexus.example, http://nexus.example",
        " http://nexus.example",
        "http://nexus.example\n",
        "http://nexus.example:",
        "http://nexus.example:0",
        "http://nexus.example:65536",
        "http://nexus.example:8o",
        "http://nexus.example:-80",
        "http://nexus.example%00",
        "http://nexus.exämple",
        "http://[::1",
        "http://[fe80::1%25eth0]",
        "1http://nexus.example",
        "http://" + "a" * 256,
    ],
)
def test_what_no_browser_sends_is_refused_also_where_the_host_header_says_the_same(origin: str) -> None:
    assert parse_origin(origin) is None
    assert not origin_allowed(origin, "nexus.example", ("https://console.example",))
    assert not origin_allowed(origin, origin.partition("//")[2], ())


@pytest.mark.parametrize(
    "host",
    ["", "nexus.example:", "nexus.example:http", "nexus.example, nexus.example", "user@nexus.example", "nexus.example:65616"],
)
def test_a_host_header_that_is_missing_or_odd_is_nobodys_name(host: str) -> None:
    assert not origin_allowed("http://nexus.example", host, ())


def test_a_listed_origin_may_connect_from_anywhere_with_its_own_scheme_and_port_only() -> None:
    listed = ("https://Console.example", "http://localhost:5173", "app://desk")
    for origin in ("https://console.example", "https://console.example:443", "http://LOCALHOST:5173", "app://desk"):
        assert origin_allowed(origin, "nexus.example", listed), origin
    for origin in ("http://console.example", "https://console.example:444", "http://localhost", "app://desk:80", "null"):
        assert not origin_allowed(origin, "nexus.example", listed), origin


@pytest.mark.parametrize("origin", ["file://", "null", "app:me", "https://a.example/path", "http://a.example http://b.example"])
def test_an_origin_of_a_native_client_is_listed_literally_and_compared_as_a_whole(origin: str) -> None:
    assert is_listable(origin)
    assert origin_allowed(origin, "nexus.example", ("https://ops.example", origin))
    for other in (origin[:-1], origin + "x", origin.upper()):
        assert not origin_allowed(other, "nexus.example", (origin,))
    assert not origin_allowed(origin, "nexus.example", ("https://ops.example",))


@pytest.mark.parametrize("text", ["", " ", " null", "null ", "a\nb", "http://ä.example", "\x7f"])
def test_what_no_origin_can_be_is_not_listable(text: str) -> None:
    assert not is_listable(text)


def test_an_extension_named_like_the_host_is_not_the_host() -> None:
    assert not origin_allowed("chrome-extension://nexus.example", "nexus.example", ())


@pytest.mark.parametrize("origin", ["null", "https://evil.example", "garbage", ""])
def test_a_star_lets_everybody_in(origin: str) -> None:
    assert origin_allowed(origin, "nexus.example", ("*",))


@given(st.text(), st.text())
def test_no_text_raises_and_none_is_let_in_that_does_not_parse(origin: str, host: str) -> None:
    """Property: over any two texts."""
    assert not origin_allowed(origin, host, ()) or parse_origin(origin) is not None


@pytest.mark.parametrize(
    "host",
    ["nexus.example", "NEXUS.example:8443", "nexus.example.", "127.0.0.1:3000", "[::1]:3000", "10.0.0.7", "localhost:3000"],
)
def test_a_server_answers_to_its_names_and_to_addresses(host: str) -> None:
    assert host_allowed(host, ("nexus.example",))


@pytest.mark.parametrize("host", ["evil.example", "nexus.example.evil.example", "127.0.0.1.evil.example", "", "a b"])
def test_a_server_with_a_list_of_names_answers_to_no_other(host: str) -> None:
    assert not host_allowed(host, ("nexus.example",))
    assert host_allowed(host, ())


@pytest.mark.parametrize(
    ("text", "listable"),
    [("nexus.example", True), ("a.b.", False), ("Nexus.example", False), ("a:80", False), ("http://a", False)],
)
def test_what_can_be_listed_as_a_host(text: str, listable: bool) -> None:
    assert is_host(text) is listable
