"""The time of day and the time that passes."""

from __future__ import annotations

import time
from typing import Any

import pytest
from twisted.internet.task import Clock

from nexus_tw.runtime.walltime import keep_steady, wall

HOUR = 3600.0


def test_a_step_of_the_clock_changes_the_time_of_day_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timers neither come early nor wait for the time to come."""
    reactor: Any = Clock()
    day, passed = 1_000_000.0, 50.0
    monkeypatch.setattr(time, "time", lambda: day)
    monkeypatch.setattr(time, "monotonic", lambda: passed)
    keep_steady(reactor)
    keep_steady(reactor)
    assert reactor.seconds() == wall(reactor) == day
    for step in (HOUR, -2 * HOUR):
        before = reactor.seconds()
        day += step + 5
        passed += 5
        assert reactor.seconds() == before + 5
        assert wall(reactor) == day


def test_a_clock_with_one_kind_of_time_tells_that() -> None:
    clock = Clock()
    clock.advance(7)
    assert wall(clock) == 7
