"""The storm: `python -m tests.clients.storm [--clients 10000] [--processes 2]`.

Connects so many Python clients to one node, ends it in order and starts it again, then once more by a kill; prints how they
came back. Fails if it took longer than 30 s, or if a second had more than twice the mean of attempts. A client needs a file
descriptor (`ulimit -n`) in its process and one in the node's, and about 100 KiB.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

from tests.clients.storm.run import Figures, Storm

LONGEST = 30.0  # s until the last client is back
RATIO = 2.0  # of the busiest second to the mean
SPARE = 200  # descriptors


async def storm(clients: int, processes: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        one = Storm(Path(directory), clients, processes)
        try:
            await one.start()
            found = [await one.strike(end) for end in ("stop", "kill")]
        finally:
            one.discard()
    for figures in found:
        print(said(figures))
    bad = [figures for figures in found if figures.back > LONGEST or figures.counts.ratio > RATIO]
    if bad:
        sys.exit("too slow, or too many at once")


def said(figures: Figures) -> str:
    counts = figures.counts
    return (
        f"{figures.end}: the node was away for {figures.away:.1f} s; all were back {figures.back:.1f} s later; "
        f"{counts.attempts} attempts within {counts.seconds:.1f} s, {counts.busiest} in the busiest second, "
        f"{counts.ratio:.2f} times the mean of {counts.mean:.0f}; the node saw {figures.seen} of them"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.clients.storm", description="Let many clients come back at once.")
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=2, help="among which the clients are divided")
    options = parser.parse_args()
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if descriptors < options.clients + SPARE:
        parser.error(f"{options.clients} clients need {options.clients + SPARE} descriptors, and ulimit -Hn is {descriptors}")

    def run(_reactor: Any) -> Any:
        return ensureDeferred(storm(options.clients, options.processes))

    react(run)


if __name__ == "__main__":
    main()
