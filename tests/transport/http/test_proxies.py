"""The proxies whose X-Forwarded-For is trusted."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.errors import ConfigError
from nexus_tw.model.settings import Http
from nexus_tw.transport.http.proxies import client_address

TRUSTED = ("127.0.0.1", "::1", "unix", "10.0.0.0/8", "2001:db8:1::/48")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("198.51.100.7", None, "198.51.100.7"),
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),  # a client's own invention
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "1.2.3.4, 203.0.113.9", "203.0.113.9"),  # the left one was sent by the client
        ("127.0.0.1", "203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("127.0.0.1", "1.2.3.4,203.0.113.9 ,\t10.1.2.3", "203.0.113.9"),
        ("10.9.9.9", "10.0.0.1, 10.0.0.2", "10.0.0.1"),
        ("::1", "2001:DB8::7", "2001:db8::7"),
        ("2001:db8:1::5", "2001:db8:2::1", "2001:db8:2::1"),
        ("unix", "203.0.113.9", "203.0.113.9"),
        ("unix", None, "unix"),
        ("127.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("127.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("127.0.0.1", "[2001:db8::7]", "2001:db8::7"),
        ("::ffff:127.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", None, "203.0.113.9"),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_no_trusted_proxy(peer: str, forwarded: str | None, client: str) -> None:
    assert client_address(peer, forwarded, TRUSTED) == client


@pytest.mark.parametrize(
    "entry", ["unknown", "_hidden", "unix", "", "1.2.3", "1.2.3.4.5", "999.1.1.1", "fe80::1%eth0", "1.2.3.4:x", "::1:::"]
)
def test_an_entry_that_is_no_address_stops_the_walk_at_who_wrote_it(entry: str) -> None:
    assert client_address("127.0.0.1", f"203.0.113.9, {entry}, 10.0.0.1", TRUSTED) == "10.0.0.1"


def test_unix_peers_are_trusted_only_where_listed() -> None:
    assert client_address("unix", "203.0.113.9", ("127.0.0.1",)) == "unix"


def test_nobody_is_trusted_where_nothing_is_listed() -> None:
    assert client_address("127.0.0.1", "203.0.113.9", ()) == "127.0.0.1"


def test_the_defaults_trust_a_proxy_on_the_same_machine() -> None:
    defaults = Http().trusted_proxies
    assert [client_address(peer, "203.0.113.9", defaults) for peer in ("127.0.0.1", "::1", "unix")] == ["203.0.113.9"] * 3


@pytest.mark.parametrize("entry", ["localhost", "10.0.0.1/8", "10.0.0.0/33", "", "*"])
def test_a_trusted_entry_that_is_neither_address_nor_network_is_named(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"http\.trusted_proxies\[1\]"):
        client_address("127.0.0.1", None, ("unix", entry))


@given(st.text(), st.lists(st.sampled_from(["127.0.0.1", "10.1.1.1", "203.0.113.9", "junk", "::1"])))
def test_the_answer_is_the_peer_or_an_address(text: str, hops: list[str]) -> None:
    """Property: whatever the header holds, nothing of it comes back that is no address."""
    answer = client_address("unix", ",".join([text, *hops]), TRUSTED)
    assert answer == "unix" or str(ip_address(answer)) == answer
