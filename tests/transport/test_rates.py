from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from nexus_tw.model.settings import Limits
from nexus_tw.transport.rates import FEW, Rates


def test_bytes_of_a_subject_count_together_whatever_brings_them_and_nobody_else_waits() -> None:
    rates = Rates(Clock(), Limits(subject_bytes_rate=1000))
    assert [rates.spend("one", 500), rates.spend("one", 500)] == [0, 0], "a second's worth at once"
    assert rates.spend("one", 500) == pytest.approx(0.5)
    assert rates.spend("two", 1000) == 0


def test_without_a_rate_nothing_is_counted() -> None:
    rates = Rates(Clock(), Limits(subject_bytes_rate=0))
    assert rates.spend("one", 1 << 40) == 0 and len(rates) == 0


def test_a_rate_that_was_read_again_holds_from_then_on() -> None:
    limits = Limits(subject_bytes_rate=1000)
    rates = Rates(Clock(), limits)
    rates.spend("one", 2000)
    limits.subject_bytes_rate = 100
    assert rates.spend("one", 200) == pytest.approx(1)


def test_who_comes_back_at_once_does_not_begin_anew_and_of_who_rested_nothing_is_kept() -> None:
    clock = Clock()
    rates = Rates(clock, Limits(subject_bytes_rate=1000))
    rates.spend("busy", 60_000)
    for number in range(20 * FEW):
        clock.advance(0.0005)
        rates.spend(f"s{number}", 1)
        assert len(rates) <= 3 * FEW + 1
    assert rates.spend("busy", 0) == pytest.approx(59 - 0.0005 * 20 * FEW)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3000), st.floats(0, 2)), max_size=50))
def test_who_waits_as_told_never_gets_in_more_than_the_rate_and_a_seconds_worth(steps: list[tuple[str, int, float]]) -> None:
    clock = Clock()
    rates = Rates(clock, Limits(subject_bytes_rate=1000))
    sent = dict.fromkeys("abc", 0)
    free = dict.fromkeys("abc", 0.0)
    for subject, size, pause in steps:
        clock.advance(pause)
        if clock.seconds() >= free[subject]:
            sent[subject] += size
            free[subject] = clock.seconds() + rates.spend(subject, size)
        assert sent[subject] <= 1000 * (max(free[subject], clock.seconds()) + 1) + 0.001
