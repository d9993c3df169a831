"""Pots: a bound for all subjects, and a share for each."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.errors import NexusError
from nexus_tw.metrics import Metrics
from nexus_tw.pots import Pot


def refused(pot: Pot, subject: str, amount: int = 1) -> str:
    with pytest.raises(NexusError) as caught:
        pot.take(subject, amount)
    assert caught.value.code == "limit_exceeded"
    return caught.value.message


def test_a_subject_gets_its_share_and_leaves_the_rest_to_others() -> None:
    metrics = Metrics()
    pot = Pot("bytes of commands", 100, 0.25, metrics)
    pot.take("greedy", 25)
    assert refused(pot, "greedy") == "More than 25 bytes of commands of one subject"
    pot.take("other", 25)
    assert (pot.taken, pot.of("greedy"), pot.of("other")) == (50, 25, 25)
    assert metrics.shares_refused == {"bytes of commands": 1}


def test_all_subjects_together_get_no_more_than_the_pot_holds() -> None:
    pot = Pot("keys", 10, 0.5, Metrics())
    for subject in ("a", "b"):
        pot.take(subject, 5)
    assert refused(pot, "c") == "More than 10 keys of all subjects"
    pot.give_back("a")
    pot.take("c")


def test_a_share_is_at_least_one_unit() -> None:
    pot = Pot("keys", 2, 0.1, Metrics())
    pot.take("a")
    refused(pot, "a")


def test_a_pot_without_a_limit_refuses_nothing() -> None:
    pot = Pot("keys", 0, 0.25, Metrics())
    pot.take("a", 10**9)
    assert pot.taken == 10**9


def test_more_than_was_taken_cannot_be_given_back() -> None:
    pot = Pot("keys", 10, 1, Metrics())
    pot.take("a", 2)
    with pytest.raises(ValueError, match="3 given back, 2 taken"):
        pot.give_back("a", 3)
    assert pot.of("a") == 2


@given(
    st.integers(1, 40),
    st.sampled_from([0.1, 0.25, 0.5, 1.0]),
    st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.integers(1, 10))),
)
def test_what_is_taken_is_within_both_bounds_and_counted_exactly(
    size: int, share: float, steps: list[tuple[bool, str, int]]
) -> None:
    pot = Pot("units", size, share, Metrics())
    model: Counter[str] = Counter()
    for take, subject, amount in steps:
        if take:
            fits = model[subject] + amount <= max(1, int(size * share)) and model.total() + amount <= size
            if fits:
                pot.take(subject, amount)
                model[subject] += amount
            else:
                refused(pot, subject, amount)
        elif model[subject] >= amount:
            pot.give_back(subject, amount)
            model[subject] -= amount
        assert pot.taken == model.total()
        assert all(pot.of(each) == model[each] for each in "abc")
