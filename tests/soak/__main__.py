"""The soak: `python -m tests.soak [--minutes 20] [--clients 60] [--seed 1]`.

Two nodes on one Redis live among clients that connect, subscribe, send telemetry, give and execute commands, and leave, often
without a word. Then what the nodes hold is compared with what they held after the first minutes: descriptors, timers,
connections, subscriptions, registrations, keys in Redis, and by how much their memory grows. Fails if something has grown.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

from tests.soak.counts import STANDING
from tests.soak.run import Figures, Soak

WARM = 0.2  # of the minutes, before the first count
KEYS = 50  # in Redis, more than before
GROWTH = 1024 * 1024.0  # bytes of memory in a minute


async def soak(minutes: float, clients: int, agents: int, seed: int) -> list[str]:
    with tempfile.TemporaryDirectory() as directory:
        one = Soak(Path(directory), clients, agents, seed, lambda line: print(line, file=sys.stderr, flush=True))
        try:
            figures = await one.run(minutes * WARM, minutes * (1 - WARM))
            await one.stop()
        finally:
            one.discard()
    for line in table(figures):
        print(line)
    return figures.faults(KEYS, GROWTH)


def table(figures: Figures) -> list[str]:
    lines = [f"{'':24}{'before':>12}{'after':>12}"]
    for number, (before, after) in enumerate(zip(figures.before.nodes, figures.after.nodes, strict=True)):
        rows = [("descriptors", before.descriptors, after.descriptors)]
        rows.append(("memory, MiB", before.memory >> 20, after.memory >> 20))
        rows += [(name, int(before.gauges[name]), int(after.gauges[name])) for name in STANDING]
        lines += [f"node {number} {name:17}{was:>12}{now:>12}" for name, was, now in rows]
        lines.append(f"node {number} grew by {figures.growth[number] / 1024:.0f} KiB a minute in the second half")
    lines.append(f"{'keys in Redis':24}{figures.before.keys:>12}{figures.after.keys:>12}")
    lines += [f"{what:40}{count:>8}" for what, count in sorted(figures.done.items())]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Find what grows.")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--clients", type=int, default=60, help="at a time")
    parser.add_argument("--agents", type=int, default=40, help="ids of agents, of which clients take one by chance")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable()  # of clients, which say whenever another one takes their id

    async def run() -> None:
        faults = await soak(options.minutes, options.clients, options.agents, options.seed)
        if faults:
            sys.exit("\n".join(faults))
        print("nothing has grown")

    def begin(_reactor: Any) -> Any:
        return ensureDeferred(run())

    react(begin)


if __name__ == "__main__":
    main()
