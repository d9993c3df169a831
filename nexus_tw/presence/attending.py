"""Attending: what this node tells the fleet of its agents, by `IAttendance`.

An agent whose last connection is gone stays for its grace, so that nobody hears of one that moves to another connection or
node: for the bus it is here until then. What the bus does not take is told again, until it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Final, Literal, NamedTuple

import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nexus_tw.model.attendance import Hold, Outcome, Sure, Told
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.times import Timestamps
from nexus_tw.presence.holding import Holding, Surroundings
from nexus_tw.runtime.walltime import wall

RETRY: Final = 1.0  # s until what the bus has not taken is told again
SETTLING: Final = 3.0  # s for all nodes to tell again what they know, once the bus may have lost it
AT_ONCE: Final = 64  # steps in a turn, of those that are not caused by single clients
# Agents without connections of which the bus is yet to hear; for more of them the grace of the oldest ends at once.
MOST: Final = 262144

Status = Literal["online", "offline"]


class AgentStatus(msgspec.Struct, rename="camel", gc=False):
    """`agent.status`: `{agentId, status: online or offline, timestamp}`."""

    agent_id: str
    status: Status
    timestamp: str


class Stay:
    """The time for which an agent is on this node, its grace included."""

    __slots__ = ("account", "heard", "since")

    def __init__(self, account: str, since: int) -> None:
        self.account = account  # of its first connection
        self.since = since  # ms since the epoch
        self.heard: float | None = None  # when its last telemetry was accepted, by the reactor's clock


class Leaving(NamedTuple):
    """An agent without connections, until its grace is over."""

    due: float
    account: str
    stay: Stay


class Debt(NamedTuple):
    """A step that the bus has not taken: that an agent is here or not, whichever is so when it is taken."""

    account: str
    known: bool  # whether the agent was told as online before it left
    reached: bool  # whether the bus may have taken the step all the same


class Attending:
    """The agents of this node, as the bus is to know them."""

    def __init__(
        self,
        around: Surroundings,
        clock: IReactorTime,
        grace: float,
        metrics: Metrics,
        displaced: Callable[[str, Hold, int], None],
        outdone: Callable[[str, int], None],
        most: int = MOST,
    ) -> None:
        """For `displaced` and `outdone` see `Holding`."""
        self._around = around
        self._clock = clock
        self._grace = grace
        self._metrics = metrics
        self._most = most
        self._timestamps = Timestamps()
        self._here: dict[str, Stay] = {}  # agents with connections
        self._told: set[str] = set()  # agents that were told as online, and are here or leaving
        self._leaving: dict[str, Leaving] = {}  # in the order in which they are due
        self._debts: dict[str, Debt] = {}
        self.holding = Holding(around, clock, self._name, displaced, outdone, self._again)
        self._calling = False  # a step is being passed to the bus
        self._refused = False  # it was refused at once
        self._sure_at = 0.0
        self._epoch = ""
        self._node = ""
        self._renamed = False
        self._repeated = False  # everything has been put again since the link was lost
        self._stopped = False
        self._timer: IDelayedCall | None = None
        self._retry: IDelayedCall | None = None

    def __len__(self) -> int:
        """Return how many agents are without connections, in their grace or untold."""
        return len(self._leaving.keys() | (self._debts.keys() - self._here.keys()))

    def stop(self) -> None:
        """Leave the agents whose grace is not over to the other nodes."""
        self._stopped = True
        for timer in (self._timer, self._retry):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._retry = None

    # --- agents

    def came(self, agent_id: str, account: str) -> None:
        """An agent has its first connection on this node."""
        leaving = self._leaving.pop(agent_id, None)
        if leaving is not None:
            self._here[agent_id] = leaving.stay
        else:
            self._here[agent_id] = self._stay(account)
            self._come(agent_id, account)

    def went(self, agent_id: str, account: str) -> None:
        """An agent has lost its last connection on this node."""
        stay = self._here.pop(agent_id)
        debt = self._debts.get(agent_id)
        if debt is not None and not debt.reached and agent_id not in self._told:
            # It came and went while the bus was away: nobody will hear of it.
            del self._debts[agent_id]
            self._around.missed()
            return
        if self._stopped:
            return
        now = self._clock.seconds()
        due = max(now + self._grace, self._sure_at)
        if due <= now:
            self._go(agent_id, account)
            return
        self._leaving[agent_id] = Leaving(due, account, stay)
        if len(self._leaving) > self._most:
            oldest = next(iter(self._leaving))
            self._go(oldest, self._leaving.pop(oldest).account)
        if self._timer is None:
            self._timer = self._clock.callLater(due - now, self._expire)

    def heard(self, agent_id: str) -> None:
        """Telemetry of an agent that has connections was accepted."""
        self._here[agent_id].heard = self._clock.seconds()

    def agents(self) -> list[str]:
        """Return the agents of this node, those in their grace included."""
        return [*self._here, *self._leaving]

    def stay(self, agent_id: str) -> Stay | None:
        """Return the stay of an agent; None if it is not on this node, and its grace is over."""
        leaving = self._leaving.get(agent_id)
        return self._here.get(agent_id) if leaving is None else leaving.stay

    def _stay(self, account: str) -> Stay:
        return Stay(account, int(wall(self._clock) * 1000))

    def _expire(self) -> None:
        now = self._clock.seconds()
        self._timer = None
        for agent_id, leaving in list(islice(self._leaving.items(), AT_ONCE)):
            if leaving.due > now:
                break
            del self._leaving[agent_id]
            self._go(agent_id, leaving.account)
        first = next(iter(self._leaving.values()), None)
        if first is not None:
            self._timer = self._clock.callLater(max(0.0, first.due - now), self._expire)

    # --- the bus and the fleet

    def started(self) -> None:
        """The bus is started, whether it is reachable or not."""
        self._name()
        self._epoch = self._around.attendance().epoch

    def restored(self) -> None:
        """The bus is reachable again: tell it what it has not taken, and everything if it may have lost its data."""
        epoch, before = self._around.attendance().epoch, self._epoch
        self._epoch = epoch
        if before and epoch != before:
            self._put_again()
            self._repeated = True
        else:
            self._pay()

    def renewed(self) -> None:
        """The fleet says that what this node has told the bus is void."""
        self._name()
        repeated, self._repeated = self._repeated, False
        epoch = self._around.attendance().epoch
        if self._renamed or epoch != self._epoch or not repeated:
            self._epoch = epoch
            self._put_again()

    def _name(self) -> str:
        """Return the node's name in the fleet."""
        node = self._around.node()
        if node != self._node:
            if self._node:
                # The others had given this node up: its heir tells its agents as offline.
                self._renamed = True
                self._told.clear()
            self._node = node
        return node

    def _put_again(self) -> None:
        now = self._clock.seconds()
        if self._renamed:
            self._leaving.clear()
            self._debts.clear()
        elif self._around.others():
            self._sure_at = now + SETTLING
        self._renamed = False
        for agent_id, debt in self._debts.items():
            if debt.known and agent_id not in self._here and agent_id not in self._leaving:
                # Others may have it, and must know first that it was told as online.
                self._told.add(agent_id)
                self._leaving[agent_id] = Leaving(now, debt.account, self._stay(debt.account))
        self._leaving = {
            agent_id: leaving._replace(due=max(leaving.due, self._sure_at))
            for agent_id, leaving in sorted(self._leaving.items(), key=lambda item: item[1].due)
        }
        for agent_id, stay in self._here.items():
            self._debts[agent_id] = Debt(stay.account, False, True)
        for agent_id, leaving in self._leaving.items():
            self._debts[agent_id] = Debt(leaving.account, False, True)
        self.holding.put_again()
        self._pay()
        if self._leaving and self._timer is None:
            self._timer = self._clock.callLater(0, self._expire)

    def _again(self) -> None:
        if self._retry is None and not self._stopped:
            self._retry = self._clock.callLater(RETRY, self._pay)

    def _pay(self) -> None:
        """Take the steps that the bus has not taken, a number in each turn."""
        self._unwind()
        debts = [partial(self._settle, agent_id) for agent_id in self._debts]
        holds = self.holding.owed()
        if debts or holds:
            self._portion(iter([*debts, *holds]))

    def _portion(self, steps: Iterator[Callable[[], None]]) -> None:
        self._retry = None
        count = 0
        for step in islice(steps, AT_ONCE):
            count += 1
            self._refused = self.holding.refused = False
            step()
            if self._was_refused():
                self._again()
                return
        if count == AT_ONCE:
            self._unwind()
            self._retry = self._clock.callLater(0, self._portion, steps)
        elif self._debts or self.holding.owes:
            self._again()

    def _unwind(self) -> None:
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self._retry = None

    def _was_refused(self) -> bool:
        return self._refused or self.holding.refused

    def _settle(self, agent_id: str) -> None:
        debt = self._debts.get(agent_id)
        if debt is None:
            return
        if agent_id in self._here or agent_id in self._leaving:
            self._come(agent_id, debt.account)
        else:
            self._go(agent_id, debt.account, debt.known)

    # --- steps

    def _come(self, agent_id: str, account: str) -> None:
        node = self._name()
        self._debts.pop(agent_id, None)
        sure: Sure = "new"
        if agent_id in self._told:
            sure = "known"
        elif self._clock.seconds() < self._sure_at:
            sure = "perhaps"
        self._calling = True
        told = self._event(agent_id, "online", account)
        self._around.attendance().come(node, agent_id, sure, told, partial(self._came, agent_id, account))
        self._calling = False

    def _came(self, agent_id: str, account: str, outcome: Outcome | NexusError) -> None:
        ours = agent_id in self._here or agent_id in self._leaving
        if isinstance(outcome, NexusError) or outcome is Outcome.UNSURE or outcome is Outcome.BURIED:
            self._refused = self._refused or (self._calling and isinstance(outcome, NexusError))
            if ours:
                self._debts[agent_id] = Debt(account, False, not self._calling)
                self._again()
            return
        self._count(outcome)
        if ours:
            self._told.add(agent_id)

    def _go(self, agent_id: str, account: str, known: bool = False) -> None:
        node = self._name()
        known = known or agent_id in self._told
        # It may be told as offline from now on, so that if it returns this must not be taken for known any more.
        self._told.discard(agent_id)
        self._debts.pop(agent_id, None)
        self._calling = True
        self.depart(node, agent_id, account, "known" if known else "new", partial(self._gone, agent_id, account, known))
        self._calling = False

    def depart(
        self, node: str, agent_id: str, account: str, sure: Sure, done: Callable[[Outcome | NexusError], None]
    ) -> None:
        """Tell the bus that a node has no connection of an agent any more, and call `done`."""

        def answered(outcome: Outcome | NexusError) -> None:
            self._count(outcome)
            done(outcome)

        self._around.attendance().go(node, agent_id, sure, self._event(agent_id, "offline", account), answered)

    def _gone(self, agent_id: str, account: str, known: bool, outcome: Outcome | NexusError) -> None:
        if not isinstance(outcome, NexusError) or agent_id in self._here:
            return
        self._refused = self._refused or self._calling
        self._debts[agent_id] = Debt(account, known, True)
        if len(self._debts) > self._most + len(self._here):
            del self._debts[next(each for each in self._debts if each not in self._here)]
            self._around.missed()
        self._again()

    def _count(self, outcome: Outcome | NexusError) -> None:
        if outcome is Outcome.TOLD:
            self._metrics.events_published += 1
        elif outcome is Outcome.LOST:
            self._metrics.events_dropped["bus"] += 1
            self._around.missed()

    def _event(self, agent_id: str, status: Status, account: str) -> Told:
        timestamp = self._timestamps.text(wall(self._clock))
        return Told(msgspec.json.encode(AgentStatus(agent_id, status, timestamp)), account)
