"""Nodes in one process with a ledger that publishes the events of what it takes and writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from msgspec import json

from nexus_tw.bus.ledger import MemoryLedger
from nexus_tw.commands.states import MOVES, State
from nexus_tw.interfaces.ledger import Write
from nexus_tw.model.errors import NexusError
from tests.commands.test_fleet import Node, Nodes
from tests.telling_ledger import TellingLedger


class Announced:
    """What the ledger has published."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(self, event: bytes) -> None:
        self.events.append(json.decode(event))

    def statuses(self, command_id: str) -> list[tuple[str | None, str]]:
        """Return what was published of a command, with the agents."""
        return [(event.get("agentId"), event["status"]) for event in self.events if event["taskId"] == command_id]

    def check(self, command_id: str, several: bool) -> None:
        """Check that the states of each execution follow each other, that each end is told once, and that of the whole last."""
        told = self.statuses(command_id)
        if several:
            *told, whole = told
            assert whole[0] is None and not MOVES[State(whole[1])], whole
        states: dict[str | None, State] = defaultdict(lambda: State.NEW)
        for agent_id, status in told:
            agent = agent_id if several else ""
            assert State(status) in MOVES[states[agent]], (agent_id, told)
            states[agent] = State(status)
        assert all(not MOVES[state] for state in states.values()), told


class TellingLink(MemoryLedger):
    """A node's link to it. While it is `deaf`, what the node writes arrives, but not the answers."""

    tells = True
    deaf = False

    def write(self, write: Write, done: Callable[[bool | NexusError | None], None]) -> None:
        lost = NexusError("bus_unavailable", "The answer was lost")
        super().write(write, (lambda _answer: done(lost)) if self.deaf else done)


def telling(nodes: Nodes) -> Announced:
    """Let the nodes' ledger tell."""
    announced = Announced()
    nodes.ledger = TellingLedger(announced, nodes.metrics, nodes.clock.seconds)
    for node in nodes.all.values():
        node.link.__class__ = TellingLink
    return announced


def mishear(node: Node, deaf: bool = True) -> None:
    """Let the answers to what the node writes be lost, or not any more."""
    assert isinstance(node.link, TellingLink)
    node.link.deaf = deaf
