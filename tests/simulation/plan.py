"""What happens in a run, made of its seed: what the fleet is like, and steps at their times.

A step that cannot be done is passed over, so any of them can be left out: that is how a failing run is made short.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final, NamedTuple

from nexus_tw.model.settings import History, Kept
from tests.simulation.labour import Labour, labour

TYPES: Final = ("task.a", "task.b", "task.a.x", "agent.s", "live.q")
PATTERNS: Final = (*TYPES, "task.*", "task.**", "task.a.*", "agent.*", "live.**", "**")
FILTERS: Final = ({"k": 1}, {"k": {"gt": 1}}, {"k": 2})
LARGE: Final = 30000  # bytes of an event
LABOUR: Final = 4
QUIET: Final = 30.0  # s in which commands end, the dead are buried, and what they had to do is taken over
KINDS: Final = 4  # values that filters ask for


class Step(NamedTuple):
    """Something that is done to the fleet at a time, in seconds from the start."""

    at: float
    what: str
    arguments: tuple[Any, ...] = ()


class Plan(NamedTuple):
    """A run."""

    seed: int
    nodes: int
    limited: tuple[bool, ...]  # of each client, whether it may do only something
    history: History
    delay: float  # s that a message usually takes
    queue: int  # bytes that may wait for a client
    steps: tuple[Step, ...]
    quiet: float  # s after the last step
    labour: Labour | None = None


def plan(seed: int, length: int, works: bool = True) -> Plan:
    """Return the run of that seed, of about `length` steps that concern events. In one seed of `LABOUR` agents work, too, if
    `works`. What is done to events is the same in each case; with agents the messages have other delays, as there are more."""
    made = _events(seed, length)
    if not works or seed % LABOUR != LABOUR - 1:
        return made
    workers, steps = labour(seed, made.nodes, Step)
    return made._replace(labour=workers, steps=tuple(sorted((*made.steps, *steps), key=lambda step: step.at)), quiet=QUIET)


def _events(seed: int, length: int) -> Plan:
    chance = Random(seed)
    count = chance.choice((3, 8, 30, 200, 1000))
    history = History(
        count=count,
        age=chance.choice((2.0, 300.0, 300.0)),
        bytes=chance.choice((600, 1048576, 1048576)),
        patterns={"live.**": Kept(count=0)},
    )
    nodes = chance.choice((1, 2, 2, 3))
    clients = chance.randint(2, 5)
    steps = _Steps(chance, nodes, clients)
    return Plan(
        seed,
        nodes,
        tuple(chance.random() < 0.3 for _ in range(clients)),
        history,
        chance.choice((0.001, 0.005, 0.03)),
        chance.choice((200000 if LARGE in steps.sizes else 2000, 1048576, 1048576)),
        steps.make(length),
        10.0,
    )


class _Steps:
    """Makes steps. Each seed has only some kinds of faults, so that each has seeds in which it is alone."""

    def __init__(self, chance: Random, nodes: int, clients: int) -> None:
        self._chance = chance
        self._nodes = nodes
        self._clients = clients
        # Large events go to a client that comes back in several steps, between which others arrive.
        self.sizes = chance.choice(((0,), (0, 0, 0, 100), (0, 0, 0, 100), (100, LARGE)))
        self._pause = chance.choice((0.02, 0.1, 0.3))
        faults = [make for make in _FAULTS if chance.random() < 0.3]
        self._kinds = [_publish] * 10 + [_subscribe] * 2 + [_unsubscribe, _drop, _drop, _ping]
        share = chance.choice((0, 1, 2, 4))
        self._kinds += faults * share

    def make(self, length: int) -> tuple[Step, ...]:
        chance, steps, now = self._chance, list[Step](), 0.0
        for client in range(self._clients):
            steps.append(Step(0.01 * client, "come", (client, chance.randrange(self._nodes))))
        now = 0.3
        for _ in range(self._clients):
            steps.append(Step(now, "subscribe", _subscription(self)))
        while len(steps) < length:
            now += chance.expovariate(1 / self._pause) if chance.random() < 0.96 else chance.uniform(1, 4)
            steps += chance.choice(self._kinds)(self, now)
        return tuple(sorted(steps, key=lambda step: step.at))

    @property
    def chance(self) -> Random:
        return self._chance

    @property
    def size(self) -> int:
        return self._chance.choice(self.sizes)

    @property
    def client(self) -> int:
        return self._chance.randrange(self._clients)

    @property
    def node(self) -> int:
        return self._chance.randrange(self._nodes)

    @property
    def notice(self) -> float:
        """How long it takes until somebody finds that a connection is broken."""
        return self._chance.choice((0.0, 0.0, self._chance.uniform(0, 0.2), self._chance.uniform(0, 3)))

    @property
    def notices(self) -> tuple[float, ...]:
        return tuple(self.notice for _ in range(self._nodes))


def _publish(steps: _Steps, now: float) -> list[Step]:
    chance = steps.chance
    burst = chance.choice((1, 1, 1, 2, 5, 12))
    client = steps.client
    event_type = chance.choice(TYPES) if chance.random() < 0.9 else f"task.n{chance.randrange(4)}"
    return [Step(now, "publish", (client, event_type, chance.randrange(KINDS), steps.size)) for _ in range(burst)]


def _subscription(steps: _Steps) -> tuple[Any, ...]:
    chance = steps.chance
    events = tuple(dict.fromkeys(chance.choice(PATTERNS) for _ in range(chance.choice((1, 1, 2, 3)))))
    return steps.client, events, chance.choice((None, None, *FILTERS))


def _subscribe(steps: _Steps, now: float) -> list[Step]:
    return [Step(now, "subscribe", _subscription(steps))]


def _unsubscribe(steps: _Steps, now: float) -> list[Step]:
    return [Step(now, "unsubscribe", (steps.client, steps.chance.choice(PATTERNS)))]


def _drop(steps: _Steps, now: float) -> list[Step]:
    back = steps.chance.choice((0.01, 0.2, 1.0, 3.0))
    return [Step(now, "drop", (steps.client, steps.notice, back, steps.node))]


def _ping(steps: _Steps, now: float) -> list[Step]:
    return [Step(now, "ping", (steps.client,))]


def _leave(steps: _Steps, now: float) -> list[Step]:
    return [Step(now, "leave", (steps.client,))]


def _slow_reader(steps: _Steps, now: float) -> list[Step]:
    return [Step(now, "stall_client", (steps.client, steps.chance.uniform(0.1, 2)))]


def _link(steps: _Steps, now: float) -> list[Step]:
    return [Step(now, "cut_link", (steps.node, steps.notice))]


def _stall(steps: _Steps, now: float) -> list[Step]:
    return [Step(now, "stall_link", (steps.node, steps.chance.randrange(4), steps.chance.uniform(0, 3)))]


def _death(steps: _Steps, now: float) -> list[Step]:
    node = steps.node
    return [Step(now, "kill", (node,)), Step(now + steps.chance.uniform(0, 1.5), "start", (node,))]


def _stopped(steps: _Steps, now: float) -> list[Step]:
    return [Step(now, "stop_process", (steps.node, steps.chance.uniform(0.1, 5)))]


def _outage(steps: _Steps, now: float) -> list[Step]:
    return [Step(now, "server_down", steps.notices), Step(now + steps.chance.uniform(0, 2), "restart")]


def _restart(steps: _Steps, now: float) -> list[Step]:
    return [Step(now, "server_down", steps.notices), Step(now + steps.chance.uniform(0, 0.1), "restart")]


def _failover(steps: _Steps, now: float) -> list[Step]:
    later = now + steps.chance.choice((0.01, 0.2, 1.0))
    return [Step(now, "falls_behind"), Step(later, "server_down", steps.notices), Step(later + 0.1, "fail_over")]


def _emptied(steps: _Steps, now: float) -> list[Step]:
    return [Step(now, "server_down", steps.notices), Step(now + 0.1, "restart_empty")]


def _flush(steps: _Steps, now: float) -> list[Step]:
    return [Step(now, "flush")]


_FAULTS: Final = (_leave, _slow_reader, _link, _stall, _death, _stopped, _outage, _restart, _failover, _emptied, _flush)
