"""Budgets: a bound for all subjects, and a share for each."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.budgets import Budget, Shelf, follow
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Limits


def refused(pot: Budget, subject: str, amount: int = 1) -> str:
    with pytest.raises(NexusError) as caught:
        pot.take(subject, amount)
    assert caught.value.code == "limit_exceeded"
    return caught.value.message


def test_a_subject_gets_its_share_and_leaves_the_rest_to_others() -> None:
    metrics = Metrics()
    pot = Budget("bytes of commands", 100, Limits(share=0.25), metrics)
    pot.take("greedy", 25)
    assert refused(pot, "greedy") == "More than 25 bytes of commands of one subject (limits.share)"
    pot.take("other", 25)
    assert (pot.taken, pot.of("greedy"), pot.of("other")) == (50, 25, 25)
    assert metrics.shares_refused == {"bytes of commands": 1}


def test_all_subjects_together_get_no_more_than_the_pot_holds() -> None:
    pot = Budget("keys", 10, Limits(share=0.5), Metrics())
    for subject in ("a", "b"):
        pot.take(subject, 5)
    assert refused(pot, "c") == "More than 10 keys of all subjects"
    pot.give_back("a")
    pot.take("c")


def test_a_share_is_at_least_one_unit() -> None:
    pot = Budget("keys", 2, Limits(share=0.1), Metrics())
    pot.take("a")
    refused(pot, "a")


def test_a_pot_without_a_limit_refuses_nothing() -> None:
    pot = Budget("keys", 0, Limits(share=0.25), Metrics())
    pot.take("a", 10**9)
    assert pot.taken == 10**9


def test_a_pot_follows_its_limits_and_names_the_one_that_bounds_it() -> None:
    limits = Limits(commands=10, share=0.5)
    pot = Budget("commands", "commands", limits, Metrics(), "rate_limited")
    pot.take("a", 5)
    limits.commands, limits.share = 7, 1.0
    follow(Limits())
    assert pot.spills("a", 1), "other limits are none of its concern"
    follow(limits)
    pot.take("a", 2)
    with pytest.raises(NexusError) as caught:
        pot.take("b")
    assert (caught.value.code, caught.value.message) == (
        "rate_limited",
        "More than 7 commands of all subjects (limits.commands)",
    )
    limits.share = 0.1
    follow(limits)
    assert pot.spills("a") and pot.share == 1


def test_a_shelf_that_is_full_drops_the_oldest_of_who_has_more_than_its_share_and_else_of_all() -> None:
    shelf: Shelf[int, str] = Shelf(Limits(share=0.5, outbox=8), "outbox", 100)
    assert shelf.put(0, "b0", "b", 1, 10) == []
    assert [shelf.put(n, f"a{n}", "a", 1, 10) for n in range(1, 8)] == [[]] * 7, "more than its share, where there is room"
    assert shelf.put(8, "c8", "c", 1, 10) == ["a1"], "there is none: the number"
    assert shelf.put(9, "c9", "c", 1, 40) == ["a2", "a3"], "the bytes"
    assert shelf.clear() == ["b0", "a4", "a5", "a6", "a7", "c8", "c9"]
    assert (len(shelf), shelf.taken) == (0, (0, 0))


def test_a_shelf_in_which_nobody_has_too_much_drops_the_oldest_and_what_comes_again_is_the_newest() -> None:
    shelf: Shelf[int, str] = Shelf(Limits(share=0.5), 4)
    assert [shelf.put(n, f"{subject}{n}", subject, 1) for n, subject in enumerate("aabb")] == [[]] * 4
    assert shelf.put(0, "again", "a", 1) == [] and 0 in shelf and len(shelf) == 4
    assert shelf.put(4, "c4", "c", 1) == ["a1"] and 1 not in shelf
    assert shelf.clear() == ["b2", "b3", "again", "c4"]


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abc"), st.integers(1, 30)), max_size=60))
def test_a_shelf_is_never_over_its_bound_and_takes_from_nobody_within_its_share_for_one_beyond(
    steps: list[tuple[int, str, int]],
) -> None:
    shelf: Shelf[int, tuple[int, str, int]] = Shelf(Limits(share=0.4), 60)
    model: dict[int, tuple[int, str, int]] = {}
    for key, subject, amount in steps:
        model.pop(key, None)
        held = Counter({subject: 0})
        model[key] = (key, subject, amount)
        for _, whose, size in model.values():
            held[whose] += size
        for gone in shelf.put(key, (key, subject, amount), subject, amount):
            assert held[gone[1]] > 24 or max(held.values()) <= 24
            held[gone[1]] -= gone[2]
            del model[gone[0]]
        assert shelf.taken == (sum(held.values()),) and shelf.taken[0] <= 60 and len(shelf) == len(model)
    assert shelf.clear() == list(model.values())


def test_more_than_was_taken_cannot_be_given_back() -> None:
    pot = Budget("keys", 10, Limits(share=1), Metrics())
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
    pot = Budget("units", size, Limits(share=share), Metrics())
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
