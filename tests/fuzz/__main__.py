"""`python -m tests.fuzz [--minutes N] [--seed S] [--rounds N]`: exits with 1 and the seed if a node failed."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import react

from tests.fuzz.round import play
from tests.fuzz.target import Finding, Target

WARM_UP = 20  # rounds after which memory is looked at
REPORT = 50  # rounds between two lines


async def fuzz(clock: Any, minutes: float, seed: int, rounds: int, log: str) -> int:
    """Play rounds with `seed`, `seed + 1`, … until `rounds` (0: no limit) or the time is reached. Return the exit status."""
    with tempfile.TemporaryDirectory(prefix="nexus-fuzz-") as directory:
        target = Target(Path(directory), log)
        end = clock.seconds() + 60 * minutes
        played = 0
        try:
            await target.start()
            while clock.seconds() < end and (not rounds or played < rounds):
                await play(target, seed + played)
                await target.check()
                played += 1
                if played == WARM_UP:
                    target.settle()
                if played % REPORT == 0:
                    _tell(target, seed, played)
            _tell(target, seed, played)
            await target.stop()
        except Finding as finding:
            print(f"seed {seed + played}: {finding}")
            print(f"again: python -m tests.fuzz --seed {seed + played} --rounds 1")
            return 1
        finally:
            target.server.discard()
    return 0


def _tell(target: Target, seed: int, played: int) -> None:
    print(
        f"{played} rounds from seed {seed} on; {target.memory() >> 20} MiB, {target.descriptors()} descriptors, "
        f"slowest round trip {target.slowest * 1000:.0f} ms",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Random bytes at a live node.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--rounds", type=int, default=0, help="end after so many, if the time is not over before")
    parser.add_argument("--log", default="json", help=argparse.SUPPRESS)  # for the test that findings are told
    wanted = parser.parse_args()
    print(f"seed {wanted.seed}", flush=True)

    def run(reactor: Any) -> Deferred[None]:
        def ended(status: int) -> None:
            sys.stdout.flush()
            if status:
                raise SystemExit(status)

        return ensureDeferred(fuzz(reactor, wanted.minutes, wanted.seed, wanted.rounds, wanted.log)).addCallback(ended)

    react(run)


if __name__ == "__main__":
    main()
