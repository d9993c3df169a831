"""The measurement of clients: exact, and honest about what fails."""

from __future__ import annotations

import pytest

from bench.clients.command import missed, table
from bench.clients.runs import BARE, CELLS, NODE, PROGRAMS, Run, once
from bench.clients.work import Result, Work
from bench.errors import Inexact
from bench.target import Time

SHORT = Time(seconds=0.1, warmup=0.05)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("cell", CELLS)
def test_every_program_does_everything_exactly(program: str, cell: str) -> None:
    run = once(cell, program, SHORT)
    assert not run.failed
    assert run.rate > 0
    assert run.cost > 0


def test_a_program_that_ends_early_has_no_result() -> None:
    run = once("samples", "work", SHORT)  # a module that does nothing
    assert run.failed == "the program ended without a result"
    assert run.rate == run.cost == 0.0


def test_events_that_are_lost_or_come_twice_are_found() -> None:
    work = Work(seconds=10, warmup=0)
    work.event(0)
    work.event(1)
    for number in (1, 3):
        with pytest.raises(Inexact, match=f"expected event 2, got {number}"):
            work.event(number)


def measured(program: str, rate: int, cpu: float = 0.5, cell: str = "events") -> Run:
    return Run(cell, program, Result(rate, 1.0, cpu, rate))


def test_the_table_has_medians_with_their_spread_and_ratios() -> None:
    runs = [measured(BARE, rate) for rate in (10_000, 40_000, 20_000)] + [measured("nexus_client", 10_000)]
    rows = table([*runs, Run("samples", BARE, None, "it failed")]).split("\n")
    assert "| bare | 3 | 20,000 [10,000-40,000] | 1.00 | 25.0 [12.5-50.0] | 1.00 |" in rows
    assert "| nexus_client | 1 | 10,000 [10,000-10,000] | 0.50 | 50.0 [50.0-50.0] | 2.00 |" in rows
    assert "| bare | 0 | it failed | | | |" in rows


def test_a_bar_holds_for_the_python_client_only() -> None:
    assert missed([measured(BARE, 1), measured(NODE, 1), measured("nexus_client", 20_000)]) == []
    assert missed([measured("nexus_client", 19_999)]) == ["events"]
    assert missed([measured("nexus_client", 1, cell="publications")]) == []
