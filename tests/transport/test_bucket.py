from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.transport.bucket import TokenBucket


def test_one_seconds_worth_may_come_at_once_and_then_so_many_a_second() -> None:
    bucket = TokenBucket(10, now=100)
    assert [bucket.spend(1, 100) for _ in range(10)] == [0] * 10
    assert bucket.spend(1, 100) == pytest.approx(0.1)
    assert bucket.spend(1, 100) == pytest.approx(0.2), "the debt adds up"
    assert bucket.spend(0, 100.2) == pytest.approx(0)


def test_a_rest_however_long_fills_it_to_one_seconds_worth() -> None:
    bucket = TokenBucket(10, now=0)
    bucket.spend(10, 0)
    assert bucket.spend(10, 1000) == 0
    assert bucket.spend(1, 1000) == pytest.approx(0.1)


def test_slack_is_how_full_it_was_left() -> None:
    bucket = TokenBucket(10, now=0)
    assert bucket.slack == 1
    bucket.spend(5, 0)
    assert bucket.slack == 0.5
    bucket.spend(10, 0)
    assert bucket.slack == -0.5
    bucket.spend(0, 100)
    assert bucket.slack == 1


def test_a_clock_that_is_set_back_neither_fills_nor_empties_it() -> None:
    bucket = TokenBucket(10, now=100)
    bucket.spend(10, 100)
    assert bucket.spend(0, 50) == 0 and bucket.slack == 0
    assert bucket.spend(5, 51) == 0, "from there on time counts again"


@given(st.integers(1, 1000), st.lists(st.tuples(st.floats(0, 2), st.integers(0, 50)), max_size=40))
def test_who_waits_as_told_never_gets_more_than_the_rate_and_a_seconds_worth(
    rate: int, steps: list[tuple[float, int]]
) -> None:
    bucket = TokenBucket(rate, now=0)
    now, spent = 0.0, 0
    for pause, units in steps:
        now += pause
        spent += units
        now += bucket.spend(units, now)
        assert spent <= rate * (now + 1) * 1.000001
