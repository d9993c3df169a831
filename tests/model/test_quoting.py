"""Foreign texts in the log."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.quoting import LONGEST, quoted


@pytest.mark.parametrize("text", ["agent-1", "10.0.0.1", "fe80::1%eth0", "auth0|123", "https://example.com:8443", "a.b.c"])
def test_one_word_is_left_as_it_is(text: str) -> None:
    assert quoted(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", '""'),
        ("going away", '"going away"'),
        ("bye (3 messages in)\n2026-01-01T00:00:00.000Z info x admin left", None),
        ('a" b', r'"a\" b"'),
        ("a\u202eb", r'"a\u202eb"'),
        ("käse", '"käse"'),
    ],
)
def test_anything_else_is_a_string_of_one_line(text: str, shown: str | None) -> None:
    assert shown is None or quoted(text) == shown
    assert quoted(text).startswith('"') and quoted(text).isprintable()


@given(st.text(max_size=2 * LONGEST))
def test_no_text_ends_its_own_quotes(text: str) -> None:
    shown = quoted(text)
    assert shown.isprintable()
    assert len(shown) < 12 * LONGEST + 100
    if shown.startswith('"'):
        string, end = json.JSONDecoder().raw_decode(shown)
        assert string == text[:LONGEST]
        assert shown[end:] in ("", f"… ({len(text)} characters)")
    else:
        assert shown == text and " " not in shown
