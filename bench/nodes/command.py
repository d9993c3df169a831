"""`python -m bench nodes`: commands to an agent at the caller's node, at the other one, and on one node without Redis."""

from __future__ import annotations

import argparse
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter
from typing import Any, Final

from bench.errors import Inexact, Unable
from bench.link import Address
from bench.meter import server_cpu
from bench.nodes.load import Caller, Stage
from bench.nodes.pair import Pair, running
from bench.runner import about

RATIO: Final = 2.5  # of the median times across nodes and within one, at most
RATE: Final = 5000.0  # commands/s through two nodes, at least
CALLERS: Final = 8  # at each node, in the run that counts how many there are in a second


def add_parser(commands: Any) -> None:
    """Add the command to the tool's parser."""
    nodes = commands.add_parser("nodes", help="commands within one node and across two, and on one without Redis")
    nodes.add_argument("--rounds", type=int, default=5, help="[5]")
    nodes.add_argument("--seconds", type=float, default=2.0, help="measured in each run [2]")
    nodes.add_argument("--window", type=int, default=16, help="commands that each of the callers keeps open, for the rate [16]")


@dataclass(frozen=True)
class Figures:
    """`within` and `across`: the medians of the times in s. `rate` and `alone`: commands/s across two nodes, and on one whose
    ledger is in its store. `nodes`, `redis` and `alone_cpu`: µs of CPU for one of them."""

    within: float
    across: float
    rate: float
    nodes: float
    redis: float
    alone: float
    alone_cpu: float


def execute(options: argparse.Namespace) -> int:
    """Return 0 if the median figures reach both bars, 1 if not or if a command was lost, 2 if it cannot run."""
    found: list[Figures] = []
    try:
        with running() as pair:
            for number in range(options.rounds):
                found.append(measure(pair, number, options.seconds, options.window))
                sys.stderr.write(f"{told(found[-1:])}\n")
    except Unable as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except Inexact as error:
        sys.stderr.write(f"{error}\n")
        return 1
    machine = about()
    sys.stdout.write(f"{machine['cores']} cores ({machine['cpu']}); {told(found)}\n")
    ratio = median(one.across / one.within for one in found)
    return 0 if ratio <= RATIO and median(one.rate for one in found) >= RATE else 1


def measure(pair: Pair, number: int, seconds: float, window: int) -> Figures:
    """Measure one round; `number` tells its commands from those of the others."""
    here, there = pair.nodes
    within, across = array("d"), array("d")
    with Stage() as stage:
        stage.agent(there, f"slow-{number}")
        near = stage.caller(there, f"near-{number}", f"slow-{number}", within)
        far = stage.caller(here, f"far-{number}", f"slow-{number}", across)
        # In turn, so that whatever else the machine does meets both.
        for _ in range(10):
            stage.run([near], 1, seconds / 20)
            stage.run([far], 1, seconds / 20)
    rate, (nodes, redis) = _rate(number, ((here, there), (there, here)), seconds, window, (pair.pids, pair.redis))
    alone, (alone_cpu,) = _rate(number, ((pair.alone, pair.alone),), seconds, window, (pair.alone_pids,))
    return Figures(median(within), median(across), rate, nodes, redis, alone, alone_cpu)


def _rate(
    number: int,
    ways: Sequence[tuple[Address, Address]],
    seconds: float,
    window: int,
    processes: Sequence[tuple[int, ...]],
) -> tuple[float, list[float]]:
    """Return the commands/s from each caller's node to the agent's, and the CPU (µs) of one for each of these processes."""
    with Stage() as stage:
        took = array("d")
        callers: list[Caller] = []
        for place, (mine, other) in enumerate(ways):
            for each in range(CALLERS):
                agent = f"fast-{number}-{place}-{each}"
                stage.agent(other, agent)
                callers.append(stage.caller(mine, f"{number}-{place}-{each}", agent, took))
        stage.run(callers, window, seconds / 4)
        before, began = [server_cpu(pids) for pids in processes], perf_counter()
        ended = stage.run(callers, window, seconds)
        passed = perf_counter() - began
        spent = [server_cpu(pids) - was for pids, was in zip(processes, before, strict=True)]
    return ended / passed, [each / ended * 1e6 for each in spent]


def told(found: list[Figures]) -> str:
    """Return the medians as a line, each with its spread."""
    ratios = [one.across / one.within for one in found]
    return (
        f"within a node {_spread([one.within * 1000 for one in found], '.2f')} ms, "
        f"across {_spread([one.across * 1000 for one in found], '.2f')} ms, ratio {_spread(ratios, '.2f')} (bar {RATIO}); "
        f"{_spread([one.rate for one in found], ',.0f')} commands/s across (bar {RATE:,.0f}), "
        f"{_spread([one.nodes for one in found], '.0f')} us of CPU each in the nodes, "
        f"{_spread([one.redis for one in found], '.0f')} in Redis; "
        f"{_spread([one.alone for one in found], ',.0f')} commands/s on one node without Redis, "
        f"{_spread([one.alone_cpu for one in found], '.0f')} us of CPU each"
    )


def _spread(values: list[float], form: str) -> str:
    middle = format(median(values), form)
    if len(values) < 2:
        return middle
    low, *_, high = quantiles(values, n=4) if len(values) > 2 else values
    return f"{middle} [{format(low, form)}-{format(high, form)}]"
