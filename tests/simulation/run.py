"""Runs: one seed, many of them, and how a failing one is made short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from tests.simulation.fleet import Fleet, MakeServer
from tests.simulation.judge import Violation
from tests.simulation.nodes import MakeCore
from tests.simulation.plan import Plan, plan
from tests.simulation.server import Server

STEPS: Final = 70  # of a run, about
TOLD: Final = 40  # lines of a story, the last ones


class Failure(NamedTuple):
    """A run in which a promise was not kept: what was violated, a short plan that does it, and how it came to that."""

    what: str
    plan: Plan
    story: list[str]

    def __str__(self) -> str:
        steps = "\n".join([f"{step.at:8.3f} {step.what} {' '.join(map(str, step.arguments))}" for step in self.plan.steps])
        left_out = len(self.story) - TOLD
        story = "\n".join(self.story[-TOLD:])
        told = f"(the last {TOLD} lines of {len(self.story)})\n" if left_out > 0 else ""
        return f"seed {self.plan.seed}: {self.what}\nsteps that matter:\n{steps}\nstory:\n{told}{story}"


@implementer(ILogObserver)
class _Observer:
    def __init__(self, logged: Callable[[LogEvent], None]) -> None:
        self._logged = logged

    def __call__(self, event: LogEvent) -> None:
        self._logged(event)


class Simulation:
    """One kind of core on one kind of server."""

    def __init__(self, core: MakeCore, server: MakeServer = Server, steps: int = STEPS, works: bool = True) -> None:
        """`works`: whether there are agents, in those seeds that have some."""
        self._core = core
        self._server = server
        self._steps = steps
        self._works = works

    def plan(self, seed: int) -> Plan:
        return plan(seed, self._steps, self._works)

    def violation(self, seed: int) -> str | None:
        """What is violated in the run of that seed."""
        return self.of(self.plan(seed))

    def told(self, seed: int) -> tuple[str | None, list[str]]:
        """The same, and all that happened."""
        violation, story = self._attempt(self.plan(seed), told=True)
        return None if violation is None else str(violation), story

    def failure(self, seed: int) -> Failure | None:
        """What is violated, with the story of the shortest run that was found in which something is violated."""
        whole = self.plan(seed)
        violation, _ = self._attempt(whole)
        if violation is None:
            return None
        short = self._shortened(whole, violation.promise)
        shorter, story = self._attempt(short, told=True)
        return Failure(str(shorter), short, story)

    def of(self, plan: Plan) -> str | None:
        """What is violated in this run."""
        violation, _ = self._attempt(plan)
        return None if violation is None else str(violation)

    def _attempt(self, attempted: Plan, told: bool = False) -> tuple[Violation | None, list[str]]:
        fleet = Fleet(attempted, self._core, self._server, told)
        logged = _Observer(fleet.logged)
        globalLogPublisher.addObserver(logged)
        try:
            fleet.run()
        except Violation as violation:
            return violation, fleet.story
        finally:
            globalLogPublisher.removeObserver(logged)
        return None, fleet.story

    def _shortened(self, long: Plan, promise: str) -> Plan:
        """Leaves out as many steps as can be left out: first many at once, then fewer."""
        size = max(len(long.steps) // 2, 1)
        while True:
            shorter = False
            place = len(long.steps)
            while place > 0:
                attempted = long._replace(steps=long.steps[: max(place - size, 0)] + long.steps[place:])
                violation, _ = self._attempt(attempted)
                if violation is not None and violation.promise == promise:
                    long, shorter = attempted, True
                place -= size
            if size == 1 and not shorter:
                return long
            size = max(size // 2, 1)
