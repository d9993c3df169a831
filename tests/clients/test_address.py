"""Addresses in every form that people give them."""

from __future__ import annotations

import pytest
from nexus_client.address import parse_address


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://fleet.example", "ws://fleet.example:80/api/v1/events"),
        ("https://fleet.example/", "wss://fleet.example:443/api/v1/events"),
        ("ws://fleet.example:3000", "ws://fleet.example:3000/api/v1/events"),
        ("wss://fleet.example/nexus/api/v1/events?x=1", "wss://fleet.example:443/nexus/api/v1/events?x=1"),
        ("HTTP://[::1]:3000", "ws://[::1]:3000/api/v1/events"),
    ],
)
def test_good_ones(url: str, expected: str) -> None:
    assert parse_address(url).url == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("fleet.example", "expected http"),
        ("ftp://fleet.example", "expected http"),
        ("http://", "host is missing"),
        ("http://fleet:port", "not a URL"),
        ("http://fleet:70000", "not a URL"),
        ("http://[::1", "not a URL"),
        ("http://user:secret@fleet", "must not hold"),
        ("http://fleet/#token=secret", "fragment"),
    ],
)
def test_bad_ones_say_why_and_repeat_no_secret(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as raised:
        parse_address(url)
    assert "secret" not in str(raised.value)
