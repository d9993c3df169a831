"""The real core keeps its promises in every seed, and the judge finds out whoever does not."""

from __future__ import annotations

import pytest

from tests.simulation.broken import BROKEN, UNFAIR
from tests.simulation.fleet import MakeServer
from tests.simulation.found import FOUND, FOUND_AT_WORK
from tests.simulation.nodes import MakeCore
from tests.simulation.plan import LABOUR
from tests.simulation.real import RealCore
from tests.simulation.reference import ReferenceCore
from tests.simulation.run import Simulation
from tests.simulation.server import Server

SEEDS = 1000
PART = 100
FOUND_IN = 100  # seeds

AT_WORK = range(LABOUR - 1, FOUND_IN, LABOUR)  # seeds in which agents work

CORES = pytest.mark.parametrize("core", [RealCore, ReferenceCore])


def simulated(core: MakeCore, server: MakeServer = Server) -> Simulation:
    """Return a simulation in which that core does all that it can: the plainest one knows no commands."""
    return Simulation(core, server, works=core is RealCore)


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_the_core_keeps_its_promises(first: int) -> None:
    simulation = Simulation(RealCore)
    for seed in range(first, first + PART):
        failure = simulation.failure(seed)
        assert failure is None, f"{failure}\npython -m tests.simulation --seed {seed}"


@CORES
@pytest.mark.parametrize("fault", FOUND)
def test_what_was_found_stays_mended(core: MakeCore, fault: str) -> None:
    assert simulated(core).of(FOUND[fault]) is None


@pytest.mark.parametrize("fault", FOUND_AT_WORK)
def test_what_was_found_at_work_stays_mended(fault: str) -> None:
    assert Simulation(RealCore).of(FOUND_AT_WORK[fault]) is None


def test_the_plainest_core_keeps_them_too() -> None:
    """So what is promised can be kept, and the judge accuses nobody falsely."""
    simulation = simulated(ReferenceCore)
    for seed in range(PART):
        assert simulation.violation(seed) is None, seed


@CORES
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_bus_is_found_out(core: MakeCore, how: str) -> None:
    simulation = simulated(core, BROKEN[how])
    found = next((seed for seed in range(FOUND_IN) if simulation.violation(seed) is not None), None)
    assert found is not None
    failure = simulation.failure(found)
    assert failure is not None
    assert failure.what in str(failure) and failure.story


@pytest.mark.parametrize("how", UNFAIR)
def test_a_bus_that_is_unfair_to_agents_is_found_out(how: str) -> None:
    simulation = Simulation(RealCore, UNFAIR[how])
    assert any(simulation.violation(seed) is not None for seed in AT_WORK)


@CORES
@pytest.mark.parametrize("seed", [17, AT_WORK[4]])
def test_a_seed_is_the_same_run_each_time(core: MakeCore, seed: int) -> None:
    simulation = simulated(core)
    violation, story = simulation.told(seed)
    assert simulation.told(seed) == (violation, story)
    assert len(story) > 50


def test_what_happens_to_events_is_the_same_where_agents_work() -> None:
    alone, together = Simulation(RealCore, works=False), Simulation(RealCore)
    for seed in AT_WORK:
        steps = iter(together.plan(seed).steps)
        assert all(step in steps for step in alone.plan(seed).steps)
        assert together.plan(seed + 1) == alone.plan(seed + 1)


def test_much_is_done_where_agents_work() -> None:
    """So none of the promises is kept for want of anything that could break it."""
    simulation = Simulation(RealCore)
    story = "\n".join(line for seed in AT_WORK for line in simulation.told(seed)[1])
    states = ("completed", "failed", "cancelled", "expired", "running", "queued", "online", "offline")
    told = ("4003", "attempt=2", "attempt=3", "was buried", "had given it up", "The bus has lost its data", "late': True")
    assert [text for text in (*(f"'status': '{state}'" for state in states), *told) if text not in story] == []


def test_what_does_not_matter_is_left_out_of_the_story() -> None:
    simulation = Simulation(RealCore, BROKEN["loses 1 in 1,000"])
    seed = next(seed for seed in range(FOUND_IN) if simulation.violation(seed) is not None)
    failure = simulation.failure(seed)
    assert failure is not None
    # A client that is there and publishes: it is told that an event was taken which nobody has.
    assert {"come", "publish"} <= {step.what for step in failure.plan.steps}
    assert len(failure.plan.steps) < 40
