"""The soak finds what grows, and a short one finds nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import pytest_twisted

from tests.conftest import LONG
from tests.soak.counts import STANDING, Holding, slope
from tests.soak.run import Figures, Rest, Soak


def rest(descriptors: int = 20, keys: int = 100, **gauges: float) -> Rest:
    return Rest([Holding(descriptors, 1 << 26, dict.fromkeys(STANDING, 0.0) | gauges)], keys)


def figures(after: Rest, growth: float = 0.0, tracebacks: int = 0) -> Figures:
    return Figures(rest(), after, [growth], Counter(), tracebacks)


def test_the_slope_is_that_of_the_nearest_line() -> None:
    assert slope([(0, 5), (1, 7), (2, 9)]) == 2
    assert slope([(0, 1), (1, 0), (2, 1)]) == 0
    assert slope([(3, 4)]) == slope([]) == slope([(1, 2), (1, 3)]) == 0


def test_what_has_come_back_to_where_it_was_is_no_fault() -> None:
    assert figures(rest(descriptors=22, keys=150, timers=5), growth=1000).faults(50, 1000) == []


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (figures(rest(descriptors=23)), "node 0 has 23 descriptors, and had 20"),
        (figures(rest(subscriptions=1)), "node 0 has 1 subscriptions, and had 0"),
        (figures(rest(timers=6)), "node 0 has 6 timers, and had 0"),
        (figures(rest(keys=151)), "Redis has 151 keys, and had 100"),
        (figures(rest(), growth=2048), "node 0 grew by 2 KiB a minute"),
        (figures(rest(), tracebacks=3), "3 tracebacks in the logs"),
    ],
)
def test_each_thing_that_has_grown_is_named(found: Figures, fault: str) -> None:
    assert found.faults(50, 1000) == [fault]


@pytest.mark.skipif(not LONG, reason="takes minutes: bin/test --long")
@pytest_twisted.ensureDeferred
async def test_nothing_but_memory_grows_in_two_minutes(tmp_path: Path) -> None:
    one = Soak(tmp_path, clients=30, agents=20, seed=1, say=lambda _line: None)
    try:
        found = await one.run(0.5, 2)
        await one.stop()
    finally:
        one.discard()
    assert found.faults(200, 1 << 30) == []
