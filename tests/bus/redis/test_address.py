"""Addresses of Redis: what they say, and that a wrong one is refused without being quoted."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.bus.redis.address import Address, parse
from nexus_tw.model.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("redis://localhost", Address(hosts=(("localhost", 6379),)), "localhost:6379"),
        ("redis://h:1/", Address(hosts=(("h", 1),)), "h:1"),
        ("redis://:pw@h:1/2", Address(hosts=(("h", 1),), password="pw", db=2), "h:1"),
        ("redis://user:p%40%3A%2F@h/0", Address(hosts=(("h", 6379),), username="user", password="p@:/", db=0), "h:6379"),
        ("redis://:pw@[::1]:7/1", Address(hosts=(("::1", 7),), password="pw", db=1), "[::1]:7"),
        ("redis://[fe80::2]", Address(hosts=(("fe80::2", 6379),)), "[fe80::2]:6379"),
        ("rediss://h/0?ca=/etc/ca.pem", Address(hosts=(("h", 6379),), db=0, tls=True, ca="/etc/ca.pem"), "h:6379"),
        (
            "redis+sentinel://:pw@a:1,b,[::2]:3/main/4",
            Address(hosts=(("a", 1), ("b", 26379), ("::2", 3)), master="main", password="pw", db=4),
            "main of a:1,b:26379,[::2]:3",
        ),
        (
            "redis+sentinel://:pw@a/main?sentinel_username=u%26&sentinel_password=a+b/pw%23",
            Address(
                hosts=(("a", 26379),), master="main", password="pw", sentinel_username="u&", sentinel_password="a+b/pw#"
            ),
            "main of a:26379",
        ),
        ("rediss://h?ca=/etc/c+a.pem", Address(hosts=(("h", 6379),), tls=True, ca="/etc/c+a.pem"), "h:6379"),
        ("redis+sentinel://a/main", Address(hosts=(("a", 26379),), master="main"), "main of a:26379"),
        ("unix:///run/redis.sock", Address(path="/run/redis.sock"), "/run/redis.sock"),
        ("unix:///run/redis.sock?db=3", Address(path="/run/redis.sock", db=3), "/run/redis.sock"),
    ],
)
def test_an_address_is_read_as_it_is_written(url: str, address: Address, shown: str) -> None:
    """Each form gives hosts, login and database; what is shown for a log holds no login."""
    assert parse(url) == address
    assert str(address) == shown
    assert "pw" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://:secret@",
        "redis://:secret@:6379",
        "redis://:sec/ret@host:6379",
        "redis://:sec#ret@host",
        "redis://:sec?ret@host",
        "redis://:secret@host:port",
        "redis://:secret@host:0",
        "redis://:secret@host:65536",
        "redis://:secret@host/one",
        "redis://:secret@host/0/1",
        "redis://:secret@host/-1",
        "redis://:secret@a,b",
        "redis://:secret@host?ssl=1",
        "redis://:secret@[::1",
        "redis://:secret@[::1]6379",
        "redis://:secret@host\uff1a1/",
        "rediss://:secret@host/0?ca",
        "redis+sentinel://:secret@a:1,/name",
        "redis+sentinel://:secret@a:1",
        "redis+sentinel://:secret@a:1/name/x",
        "redis+sentinel://a:1/name?password=secret",
        "redis+sentinel://a:1/name?sentinel_password=",
        "redis+sentinel://a:1/name?sentinel_username=secret",
        "redis://a:1/0?sentinel_password=secret",
        "unix://host/path",
        "unix:",
    ],
)
def test_a_wrong_address_is_refused_without_being_quoted(url: str) -> None:
    """The error names the key, and nothing of what was written."""
    with pytest.raises(ConfigError, match=r"^bus\.url: ") as caught:
        parse(url)
    for part in ("sec", "ret@"):
        assert part not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@given(st.sampled_from(["redis", "rediss", "redis+sentinel", "unix"]), st.text(max_size=40))
def test_any_text_is_an_address_or_is_refused(scheme: str, rest: str) -> None:
    """No text raises anything but `ConfigError`."""
    with suppress(ConfigError):
        parse(f"{scheme}://{rest}")
