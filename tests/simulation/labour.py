"""What agents and callers do in a run, made of its seed apart from all that concerns events, which stays what it is."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from tests.simulation.plan import Step

COMMANDS: Final = ("work.a", "work.b")
STEPS: Final = 40  # about


class Labour(NamedTuple):
    """Who works in a run."""

    agents: tuple[tuple[str, ...], ...]  # the commands of each
    callers: int
    grace: float  # s for which an agent without a connection is still online


def labour(seed: int, nodes: int, step: type[Step]) -> tuple[Labour, list[Step]]:
    """Return who works in the run of this seed, and what happens to them."""
    chance = Random(f"{seed} labour")
    agents = tuple(tuple(sorted(chance.sample(COMMANDS, chance.choice((1, 2, 2))))) for _ in range(chance.randint(1, 3)))
    made = Labour(agents, chance.randint(1, 2), chance.choice((0.5, 2.0, 5.0)))
    days = _Days(chance, made, nodes, step)
    return made, days.make()


class _Days:
    """Makes steps; see `tests.simulation.plan`."""

    def __init__(self, chance: Random, labour: Labour, nodes: int, step: type[Step]) -> None:
        self._chance = chance
        self._labour = labour
        self._nodes = nodes
        self._step = step
        self._pause = chance.choice((0.1, 0.3, 0.6))
        kinds = [self._command] * 8 + [self._again] * 3 + [self._cancel, self._caller_drop, self._caller_drop]
        kinds += [self._agent_drop] * 3 + [self._rest, self._rival]
        faults = [self._death, self._standstill, self._isolation, self._flush, self._clock]
        chosen = [make for make in faults if chance.random() < 0.4]
        self._kinds = kinds + chosen * chance.choice((0, 1, 1, 2))

    def make(self) -> list[Step]:
        chance, steps, now = self._chance, list[Any](), 0.05
        for agent in range(len(self._labour.agents)):
            steps.append(self._at(now + 0.02 * agent, "agent_comes", agent, self._node))
        for caller in range(self._labour.callers):
            steps.append(self._at(now + 0.02 * caller, "caller_comes", caller, self._node))
        while len(steps) < STEPS:
            now += chance.expovariate(1 / self._pause) if chance.random() < 0.92 else chance.uniform(1, 7)
            steps += chance.choice(self._kinds)(now)
        return steps

    def _at(self, at: float, what: str, *arguments: Any) -> Step:
        return self._step(round(at, 6), what, arguments)

    @property
    def _node(self) -> int:
        return self._chance.randrange(self._nodes)

    @property
    def _agent(self) -> int:
        return self._chance.randrange(len(self._labour.agents))

    @property
    def _caller(self) -> int:
        return self._chance.randrange(self._labour.callers)

    @property
    def _notice(self) -> float:
        return self._chance.choice((0.0, self._chance.uniform(0, 0.2), self._chance.uniform(0, 3)))

    def _command(self, now: float) -> list[Step]:
        chance = self._chance
        agents = [f"agent-{number}" for number in range(len(self._labour.agents))]
        target: Any = chance.choice((None, chance.choice(agents), chance.choice(agents), tuple(agents)))
        ttl, retries = chance.choice((0, 0, 1.0, 6.0)), chance.choice((0, 0, 1, 2))
        timeout, work = chance.choice((0.5, 3.0, 8.0)), chance.choice(WORK)
        burst = chance.choice((1, 1, 1, 3))
        arguments = self._caller, chance.choice(COMMANDS), target, timeout, ttl, retries, work
        return [self._at(now, "command", *arguments) for _ in range(burst)]

    def _again(self, now: float) -> list[Step]:
        return [self._at(now, "again", self._caller, self._chance.randrange(1, 5))]

    def _cancel(self, now: float) -> list[Step]:
        return [self._at(now, "cancel", self._caller, self._chance.randrange(1, 4))]

    def _caller_drop(self, now: float) -> list[Step]:
        return [self._at(now, "caller_drops", self._caller, self._notice, self._chance.choice((0.01, 0.5)), self._node)]

    def _agent_drop(self, now: float) -> list[Step]:
        back = self._chance.choice((0.01, 0.2, 1.0, 4.0))
        return [self._at(now, "agent_drops", self._agent, self._notice, back, self._node)]

    def _rest(self, now: float) -> list[Step]:
        agent, pause = self._agent, self._chance.uniform(1, 12)
        return [
            self._at(now, "agent_rests", agent, self._notice),
            self._at(now + pause, "agent_comes", agent, self._node),
        ]

    def _rival(self, now: float) -> list[Step]:
        return [self._at(now, "agent_moves", self._agent, self._node)]

    def _death(self, now: float) -> list[Step]:
        node = self._node
        return [self._at(now, "kill", node), self._at(now + self._chance.choice((0.3, 3.0, 9.0)), "start", node)]

    def _standstill(self, now: float) -> list[Step]:
        return [self._at(now, "stop_process", self._node, self._chance.uniform(3, 12))]

    def _isolation(self, now: float) -> list[Step]:
        return [self._at(now, "isolate", self._node, self._notice, self._chance.uniform(0.5, 12))]

    def _flush(self, now: float) -> list[Step]:
        return [self._at(now, "flush")]

    def _clock(self, now: float) -> list[Step]:
        return [self._at(now, "step_clock", self._node, self._chance.choice((-3600, 3600)))]


WORK: Final = ("quick", "quick", "slow", "slow", "told", "fails", "never", "late")
"""How an agent carries a command out: at once, in up to 3 s, with progress, with an error, not at all, or even if it was told
that nobody waits for it any more."""
