"""A ledger that publishes the events of what it takes and writes, for nodes in one process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from msgspec import json

from nexus_tw.bus.ledger import Ledger, MemoryLedger
from nexus_tw.commands.states import MOVES, State
from nexus_tw.interfaces.ledger import Entry, Write
from nexus_tw.model.errors import NexusError
from tests.commands.test_fleet import Node, Nodes


class TellingLedger(Ledger):
    """What the nodes share; it counts events as the one in Redis does."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.events: list[dict[str, Any]] = []
        self._told: dict[str, int] = {}

    def take(self, entry: Entry, former: str) -> Entry | NexusError | None:
        answer = super().take(entry, former)
        if answer is None:
            self._tell(entry.events)
            self._told[entry.command_id] = (self._told.get(entry.command_id, 0) if former else 0) + len(entry.events)
        return answer

    def write(self, write: Write) -> bool | None:
        is_open = write.command_id in self._open
        answer = super().write(write)
        if answer and is_open:
            told = self._told.get(write.command_id, write.told)
            self._tell(write.events[max(0, told - write.told) :])
            self._told[write.command_id] = max(told, write.told + len(write.events))
        return answer

    def inherit(self, left: str | None, node: str, most: int) -> list[Entry]:
        return [entry._replace(told=self._told[entry.command_id]) for entry in super().inherit(left, node, most)]

    def _tell(self, events: Any) -> None:
        self.events += map(json.decode, events)

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


def telling(nodes: Nodes) -> TellingLedger:
    """Let the nodes' ledger tell."""
    ledger = nodes.ledger = TellingLedger(nodes.metrics, nodes.clock.seconds)
    for node in nodes.all.values():
        node.link.__class__ = TellingLink
    return ledger


def mishear(node: Node, deaf: bool = True) -> None:
    """Let the answers to what the node writes be lost, or not any more."""
    assert isinstance(node.link, TellingLink)
    node.link.deaf = deaf
