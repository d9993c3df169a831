"""`python -m tests.simulation [--seeds N] [--from N] [--seed N]`: run seeds, and tell the first that fails."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.real import RealCore
from tests.simulation.run import STEPS, Simulation


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many to run")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first of them")
    parser.add_argument("--seed", type=int, help="run this one alone, and tell all that happens in it")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each run, about; with other ones a seed is another run")
    options = parser.parse_args()
    simulation = Simulation(RealCore, steps=options.steps)
    if options.seed is not None:
        violation, story = simulation.told(options.seed)
        print("\n".join(story), violation or "nothing was violated", sep="\n")
        return violation is not None
    for seed in range(options.first, options.first + options.seeds):
        failure = simulation.failure(seed)
        if failure is not None:
            print(failure)
            return 1
        done = seed + 1 - options.first
        if done % 1000 == 0 or done == options.seeds:
            print(f"{done} seeds, up to {seed}: nothing was violated", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
