"""Quotas of stored telemetry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.interfaces.plugins import Tally
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Limits
from nexus_tw.telemetry.quotas import BURST, HOLDERS, SLICES, STEPS, Quotas

DAY = 86400.0


def quotas(rate: int = 0, kept: int = 0, retention: float = DAY) -> tuple[Quotas, Metrics]:
    metrics = Metrics()
    return Quotas("subject", Limits(telemetry_rate=rate, telemetry_kept=kept), retention, metrics), metrics


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
    for number in range(HOLDERS + 10):
        held.take(str(number), 1, 0.0)
    assert len(held._accounts) == HOLDERS


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


# --- what outlives a restart


def test_what_is_saved_counts_after_a_restart_until_the_store_forgets_it() -> None:
    earlier, _ = quotas(kept=25600)
    for second in range(9):
        earlier.take("one", 11, float(second))
    assert not earlier.due and earlier.unsaved() == []
    earlier.take("one", 11, 9.0)
    assert list(earlier.due) == ["one"], "a step of 100 bytes"
    tallies = earlier.unsaved()
    assert tallies == [Tally("subject one", 0, 110)] and not earlier.due
    earlier.take("one", 25000, DAY / 2)
    tallies += earlier.unsaved()
    assert tallies[1:] == [Tally("subject one", int(DAY / 2) * 1000, 25000)]

    later, _ = quotas(kept=25600)
    later.load([*reversed(tallies), Tally("agent one", 0, 25600)], DAY / 2)
    with pytest.raises(NexusError, match=r"limits\.telemetry_kept"):
        later.take("one", 491, DAY / 2 + 1)
    later.take("one", 490, DAY / 2 + 1)
    assert later.unsaved() == [Tally("subject one", int(DAY / 2) * 1000, 490)], "what was loaded is saved already"
    with pytest.raises(NexusError):
        later.take("one", 1, DAY)
    later.take("one", 110, DAY + 1)


def test_what_could_not_be_saved_is_due_again_and_what_was_not_stored_is_taken_back() -> None:
    held, _ = quotas(kept=25600)
    held.take("one", 200, 0.0)
    tallies = held.unsaved()
    assert held.unsaved(everything=True) == []
    held.not_saved(tallies)
    assert list(held.due) == ["one"] and held.unsaved() == tallies
    held.give_back("one", 50)
    assert held.unsaved(everything=True) == [Tally("subject one", 0, -50)]


def test_of_an_agent_the_limits_and_the_counts_are_its_own() -> None:
    metrics = Metrics()
    held = Quotas("agent", Limits(telemetry_kept=1, agent_telemetry_rate=100, agent_telemetry_kept=1500), DAY, metrics)
    held.take("one", 1000, 0.0)
    with pytest.raises(NexusError, match=r"of one agent \(limits\.agent_telemetry_rate\)"):
        held.take("one", 1, 0.0)
    with pytest.raises(NexusError, match=r"of one agent are kept \(limits\.agent_telemetry_kept\)"):
        held.take("one", 501, 10.0)
    assert metrics.telemetry_refused == {"agent_rate": 1, "agent_kept": 1}
    assert held.unsaved() == [Tally("agent one", 0, 1000)]


@given(st.lists(st.tuples(st.integers(1, 500), st.booleans()), max_size=60))
def test_however_often_it_is_killed_nobody_gets_more_than_a_step_each_time(steps: list[tuple[int, bool]]) -> None:
    most, now, stored, kills = 5120, 0.0, 0, 0
    held, _ = quotas(kept=most)
    saved: dict[tuple[str, int], int] = {}
    for size, killed in steps:
        now += 1
        if killed:
            kills += 1
            held, _ = quotas(kept=most)
            held.load([Tally(holder, began, count) for (holder, began), count in saved.items()], now)
        try:
            held.take("one", size, now)
        except NexusError:
            continue
        stored += size
        for holder, began, count in held.unsaved():
            saved[holder, began] = saved.get((holder, began), 0) + count
    assert stored <= most + kills * most // STEPS
