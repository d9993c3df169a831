"""The real core keeps its promises in every seed, and the judge finds out whoever does not."""

from __future__ import annotations

import pytest

from tests.simulation.broken import BROKEN
from tests.simulation.found import FOUND
from tests.simulation.nodes import MakeCore
from tests.simulation.real import RealCore
from tests.simulation.reference import ReferenceCore
from tests.simulation.run import Simulation

SEEDS = 1000
PART = 100
FOUND_IN = 100  # seeds

CORES = pytest.mark.parametrize("core", [RealCore, ReferenceCore])


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_the_core_keeps_its_promises(first: int) -> None:
    simulation = Simulation(RealCore)
    for seed in range(first, first + PART):
        failure = simulation.failure(seed)
        assert failure is None, f"{failure}\npython -m tests.simulation --seed {seed}"


@CORES
@pytest.mark.parametrize("fault", FOUND)
def test_what_was_found_stays_mended(core: MakeCore, fault: str) -> None:
    assert Simulation(core).of(FOUND[fault]) is None


def test_the_plainest_core_keeps_them_too() -> None:
    """So what is promised can be kept, and the judge accuses nobody falsely."""
    simulation = Simulation(ReferenceCore)
    for seed in range(PART):
        assert simulation.violation(seed) is None, seed


@CORES
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_bus_is_found_out(core: MakeCore, how: str) -> None:
    simulation = Simulation(core, BROKEN[how])
    found = next((seed for seed in range(FOUND_IN) if simulation.violation(seed) is not None), None)
    assert found is not None
    failure = simulation.failure(found)
    assert failure is not None
    assert failure.what in str(failure) and failure.story


@CORES
def test_a_seed_is_the_same_run_each_time(core: MakeCore) -> None:
    simulation = Simulation(core)
    violation, story = simulation.told(17)
    assert simulation.told(17) == (violation, story)
    assert len(story) > 50


def test_what_does_not_matter_is_left_out_of_the_story() -> None:
    simulation = Simulation(RealCore, BROKEN["loses 1 in 1,000"])
    seed = next(seed for seed in range(FOUND_IN) if simulation.violation(seed) is not None)
    failure = simulation.failure(seed)
    assert failure is not None
    # A client that is there and publishes: it is told that an event was taken which nobody has.
    assert {"come", "publish"} <= {step.what for step in failure.plan.steps}
    assert len(failure.plan.steps) < 40
