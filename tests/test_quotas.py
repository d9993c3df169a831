"""Quotas of stored telemetry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.errors import NexusError
from nexus_tw.metrics import Metrics
from nexus_tw.quotas import BURST, SLICES, SUBJECTS, Quotas
from nexus_tw.settings import Limits

DAY = 86400.0


def quotas(rate: int = 0, kept: int = 0, retention: float = DAY) -> tuple[Quotas, Metrics]:
    metrics = Metrics()
    return Quotas(Limits(telemetry_rate=rate, telemetry_kept=kept), retention, metrics), metrics


def test_a_subject_that_stores_too_fast_is_refused_and_the_others_are_not() -> None:
    held, metrics = quotas(rate=100)
    for _ in range(int(BURST)):
        held.take("one", 100, 0.0)
    with pytest.raises(NexusError, match=r"limits\.telemetry_rate") as refused:
        held.take("one", 1, 0.0)
    assert refused.value.code == "rate_limited" and metrics.telemetry_refused == {"rate": 1}
    held.take("other", 1000, 0.0)
    held.take("one", 100, 1.0)


def test_what_a_subject_keeps_is_bounded_until_the_store_forgets_it() -> None:
    held, metrics = quotas(kept=1000)
    held.take("one", 1000, 0.0)
    with pytest.raises(NexusError, match=r"limits\.telemetry_kept") as refused:
        held.take("one", 1, DAY)
    assert refused.value.code == "limit_exceeded" and metrics.telemetry_refused == {"kept": 1}
    held.take("other", 1000, DAY)
    held.take("one", 1000, DAY + 1)


def test_what_was_not_stored_is_not_counted() -> None:
    held, _ = quotas(kept=1000)
    held.take("one", 1000, 0.0)
    held.give_back("one", 400)
    held.take("one", 400, 0.0)
    with pytest.raises(NexusError):
        held.take("one", 1, 0.0)


def test_with_no_limits_nothing_is_remembered() -> None:
    held, _ = quotas()
    held.take("one", 1 << 40, 0.0)
    assert not held._accounts


def test_subjects_are_remembered_within_a_bound() -> None:
    held, _ = quotas(kept=1000, retention=0)
    for number in range(SUBJECTS + 10):
        held.take(str(number), 1, 0.0)
    assert len(held._accounts) == SUBJECTS


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(0, DAY)), max_size=60), st.sampled_from([0.0, DAY]))
def test_no_window_has_more_than_the_limit(steps: list[tuple[int, float]], retention: float) -> None:
    held, _ = quotas(kept=1000, retention=retention)
    stored: list[tuple[float, int]] = []
    now = 0.0
    for size, later in steps:
        now += later
        try:
            held.take("one", size, now)
        except NexusError:
            continue
        stored.append((now, size))
        window = (retention - retention / SLICES) if retention else now + 1
        assert sum(each for when, each in stored if when > now - window) <= 1000
        assert len(held._accounts["one"].slices) <= SLICES + 2
