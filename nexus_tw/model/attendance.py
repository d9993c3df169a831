"""Attendance: which nodes have connections of an agent, the status that was told of it, and who has registered it.

The same rules as in `nexus_tw/bus/redis/scripts/attend.lua`; time is handed in. What is told of an agent alternates: online
when a node has its first connection, offline when no node has any.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import Enum
from typing import Final, Literal, NamedTuple

STATUS: Final = "agent.status"  # the type of the events
ABSENT: Final = 100_000  # offline agents that are remembered; those that left longest ago are forgotten
ABSENT_AGE: Final = 604800  # s for which an offline agent is remembered

Sure = Literal["new", "known", "perhaps"]
"""What a node knows of an agent of which the bus knows nothing. `known`: it was told as online before. `new`: it was not.
`perhaps`: another node may know; until one does, or the node is sure, nothing is told."""


class Told(NamedTuple):
    """The data of an `agent.status` to be published, and the account that caused it."""

    data: bytes
    account: str


class Outcome(Enum):
    """The outcome of a step."""

    TOLD = "+"  # the status has changed, and that was published
    LOST = "-"  # the status has changed, but the bus has refused to publish that
    SAME = "="
    UNSURE = "?"  # nobody knows yet whether the agent was told as online before
    BURIED = "!"  # the others have given the node up: nothing has changed


class Hold(NamedTuple):
    """The connection that has registered an agent explicitly. Of two the one with the higher number is later."""

    node: str
    session: int
    number: int


NOBODY: Final = 0  # in the place of a session that may be replaced on another node
ANYBODY: Final = -1


class Held(NamedTuple):
    """The answer to a registration: the present holder, and who held the agent before if it was another one."""

    now: Hold
    former: Hold | None


class _Agent:
    """What is known of one agent."""

    __slots__ = ("hold", "nodes", "since", "status")

    def __init__(self, now: float) -> None:
        self.nodes: dict[str, None] = {}
        self.status = ""  # as it was told; "": nobody knows
        self.since = now
        self.hold: Hold | None = None


class Attendance:
    """The agents of all nodes of one realm."""

    def __init__(
        self,
        publish: Callable[[Told], None],
        now: Callable[[], float],
        buried: Collection[str] = (),
    ) -> None:
        """`publish` publishes an `agent.status`; `now` returns seconds; `buried` has the nodes that were given up."""
        self._publish = publish
        self._now = now
        self._buried = buried
        self._agents: dict[str, _Agent] = {}
        self._at: dict[str, dict[str, None]] = {}  # agents by node
        self._absent: dict[str, None] = {}  # offline ones; who left longest ago is first

    def clear(self) -> None:
        """Forget everything, as a bus does that loses its data."""
        self._agents.clear()
        self._at.clear()
        self._absent.clear()

    def come(self, node: str, agent_id: str, sure: Sure, told: Told) -> Outcome:
        """A node has connections of the agent from now on."""
        if node in self._buried:
            return Outcome.BURIED
        agent = self._agents.get(agent_id)
        if agent is None:
            agent = self._agents[agent_id] = _Agent(self._now())
        agent.nodes[node] = None
        self._at.setdefault(node, {})[agent_id] = None
        if agent.status == "online":
            return Outcome.SAME
        if sure == "perhaps" and not agent.status:
            return Outcome.UNSURE
        # If another node has told it as offline since, this node's knowledge is out of date.
        known = sure == "known" and not agent.status
        self._set(agent_id, agent, "online")
        if known:
            return Outcome.SAME
        self._publish(told)
        return Outcome.TOLD

    def go(self, node: str, agent_id: str, sure: Sure, told: Told) -> Outcome:
        """A node has no connection of the agent any more."""
        agent = self._agents.get(agent_id)
        if agent is None:
            if sure != "known":
                return Outcome.SAME
            agent = self._agents[agent_id] = _Agent(self._now())
            agent.status = "online"
        agent.nodes.pop(node, None)
        there = self._at.get(node)
        if there is not None:
            there.pop(agent_id, None)
            if not there:
                del self._at[node]
        if agent.nodes:
            return Outcome.SAME
        agent.hold = None
        if not agent.status:
            del self._agents[agent_id]
            return Outcome.SAME
        if agent.status == "offline":
            return Outcome.SAME
        self._set(agent_id, agent, "offline")
        self._publish(told)
        return Outcome.TOLD

    def hold(self, node: str, agent_id: str, session: int, number: int, over: int) -> Held | Outcome:
        """A connection registers the agent: with number 0 it replaces whoever holds it on this node, or `over` on another one;
        otherwise it says again that it holds it since that number, or with a negative one that it has registered it so many ms
        ago."""
        if node in self._buried:
            return Outcome.BURIED
        agent = self._agents.get(agent_id)
        if agent is None:
            agent = self._agents[agent_id] = _Agent(self._now())
        former = agent.hold
        if former is not None and not number and former.node != node and over not in (ANYBODY, former.session):
            return Held(former, None)
        if number < 0:
            number = max(1, int(self._now() * 1000) + number)
        if former is not None and number and former.session != session and former.number > number:
            return Held(former, None)
        if not number:
            number = max(int(self._now() * 1000), 1 if former is None else former.number + 1)
        agent.hold = Hold(node, session, number)
        return Held(agent.hold, None if former is None or former.session == session else former)

    def free(self, agent_id: str, session: int) -> None:
        """A connection that registered the agent is gone."""
        agent = self._agents.get(agent_id)
        if agent is not None and agent.hold is not None and agent.hold.session == session:
            agent.hold = None

    def at(self, node: str, most: int) -> list[str]:
        """Return up to `most` of the agents that a node has."""
        return [agent_id for agent_id, _ in zip(self._at.get(node, ()), range(most), strict=False)]

    def absent(self) -> dict[str, float]:
        """Return the offline agents, with the time at which each was told as offline (s)."""
        return {agent_id: self._agents[agent_id].since for agent_id in self._absent}

    def _set(self, agent_id: str, agent: _Agent, status: str) -> None:
        agent.status = status
        agent.since = now = self._now()
        self._absent.pop(agent_id, None)
        if status == "offline":
            self._absent[agent_id] = None
            while self._absent:
                oldest = next(iter(self._absent))
                if len(self._absent) <= ABSENT and now - self._agents[oldest].since < ABSENT_AGE:
                    break
                del self._absent[oldest], self._agents[oldest]
