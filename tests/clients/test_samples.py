"""Samples as the application gives them, and why others are refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from nexus_client.samples import make_sample


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2026, 1, 31, 12, 0, 0, 123_456, UTC), "2026-01-31T12:00:00.123Z"),
        (datetime.fromisoformat("2026-01-31T12:00:00"), "2026-01-31T12:00:00.000Z"),
        (datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=2))), "2026-01-31T10:00:00.000Z"),
    ],
)
def test_times(at: datetime, expected: str) -> None:
    assert make_sample("s", "a-1", {"cpu": 1}, at).timestamp == expected


def test_the_time_is_now_unless_it_is_given() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    made = make_sample("s", "a-1", {"cpu": 1}, None).timestamp
    assert made.endswith("Z")
    assert before <= datetime.fromisoformat(made) <= datetime.now(UTC)


def test_metrics() -> None:
    metrics = {"cpu": 0.5, "up": True, "state": "idle", "disk": {"used": 2**63 - 1, "free": -(2**63)}}
    assert json.loads(make_sample("s", "a-1", metrics, None).metrics) == metrics


@pytest.mark.parametrize(
    ("agent", "metrics", "reason"),
    [
        (None, {"a": 1}, "agent: give"),
        ("a b", {"a": 1}, "agent: 'a b' is no name"),
        ("a", {}, "metrics: must not be empty"),
        ("a", {"disk": {}}, r"metrics\.disk: must not be empty"),
        ("a", {"": 1}, "metrics: a name must not be empty"),
        ("a", {"a": None}, r"metrics\.a: expected a number, a boolean, a string or an object, not NoneType"),
        ("a", {"d": {"a": [1]}}, r"metrics\.d\.a: expected .* not list"),
        ("a", {"a": float("nan")}, r"metrics\.a: must be finite"),
        ("a", {"a": 2**63}, r"metrics\.a: must fit 64 bits"),
    ],
)
def test_what_is_refused(agent: str | None, metrics: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make_sample("s", agent, metrics, None)
