"""What callers were told of their commands, what agents did about them, and what was announced, held against each other.

A command ends once: everybody who asks is told the same end, and exactly one final state is announced, after others that may
follow each other. It is executed at most
once, and once more for each of its `retries`; never by two at a time; each further attempt has a higher number.
One that expires was executed by nobody. An agent is announced online and offline in turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

MOST = 20  # faults that are written down
FINAL: Final = frozenset({"completed", "failed", "cancelled", "expired"})
# The states that may be announced after each; "" is before the first.
FOLLOW: Final = {
    "": {"queued", "sent", "failed", "cancelled"},
    "queued": {"sent", "failed", "cancelled", "expired"},
    "sent": {"sent", "queued", "running", "completed", "failed", "cancelled"},
    "running": {"sent", "queued", "completed", "failed", "cancelled"},
}


@dataclass
class Execution:
    """What one agent does about one attempt."""

    attempt: int
    over: bool = False
    answered: bool = False


@dataclass
class Order:
    """A command, as all who have to do with it know it."""

    id: str
    target: str
    retries: int
    executions: list[Execution] = field(default_factory=list)
    outcome: str | None = None  # `success` or the code of the error, as its caller was told
    states: dict[str, list[str]] = field(default_factory=dict)  # that were announced, by watcher

    def finals(self, watcher: str) -> list[str]:
        """Return the final states that this watcher was told."""
        return [state for state in self.states.get(watcher, ()) if state in FINAL]

    @property
    def state(self) -> str:
        """The final state that goes with the outcome."""
        outcome = self.outcome or ""
        return {"success": "completed", "cancelled": "cancelled", "expired": "expired"}.get(outcome, "failed")


class Judge:
    """The truth about commands and presence, and every violation of it that was found."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.refused: set[str] = set()  # commands that were perhaps not taken, so that nothing was announced
        self.faults: list[str] = []
        self.ended = 0
        self.repeated = 0  # attempts after the first

    def fault(self, text: str) -> None:
        if len(self.faults) < MOST:
            self.faults.append(text)

    def given(self, order: Order) -> None:
        self.orders[order.id] = order

    # --- what agents do

    def began(self, command_id: str, agent: str, attempt: int) -> Execution:
        order = self.orders[command_id]
        before = order.executions
        if agent != order.target:
            self.fault(f"{command_id} is for {order.target}, and {agent} got it")
        if any(not execution.over for execution in before):
            self.fault(f"{command_id} is executed twice at a time, attempt {attempt}")
        if before and attempt <= before[-1].attempt:
            self.fault(f"{command_id} was attempt {before[-1].attempt}, then {attempt}")
        if len(before) > order.retries:
            self.fault(f"{command_id} is executed {len(before) + 1} times, with {order.retries} retries")
        self.repeated += bool(before)
        execution = Execution(attempt)
        before.append(execution)
        return execution

    # --- what callers are told

    def told(self, command_id: str, outcome: str) -> None:
        """A caller got the end of its command: `success` or a code."""
        order = self.orders[command_id]
        if order.outcome is None:
            order.outcome = outcome
            self.ended += 1
        elif order.outcome != outcome:
            self.fault(f"{command_id} ended as {order.outcome}, then as {outcome}")
        if outcome == "success" and not any(execution.answered for execution in order.executions):
            self.fault(f"{command_id} succeeded, and nobody has done it")
        if outcome == "expired" and order.executions:
            self.fault(f"{command_id} expired, and was executed")

    def check(self, watchers: Iterable[Lookout]) -> None:
        """Find what did not end, or was not announced as it ended."""
        for watcher in watchers:
            for order in self.orders.values():
                self._check(order, watcher)

    def _check(self, order: Order, watcher: Lookout) -> None:
        if order.outcome is None:
            self.fault(f"{order.id} has no end; attempts {[execution.attempt for execution in order.executions]}")
            return
        finals, states = order.finals(watcher.name), order.states.get(watcher.name, [])
        # An agent may go after its command was taken: that has failed then, in the words of a refusal.
        untold = not finals and (order.id in self.refused or watcher.gaps > 0)
        if finals != [order.state] and not untold:
            self.fault(f"{order.id} ended as {order.outcome}, and {watcher.name} was told {finals}")
        elif not untold and not watcher.gaps and any(b not in FOLLOW.get(a, ()) for a, b in pairwise(["", *states])):
            self.fault(f"{order.id}: {watcher.name} was told {states}")


class Lookout:
    """What one subscriber was told of commands and agents."""

    def __init__(self, name: str, judge: Judge) -> None:
        self.name = name
        self.gaps = 0  # that it was told
        self.status: dict[str, str] = {}  # by agent
        self.changes = 0
        self._judge = judge

    def task(self, command_id: str, state: str) -> None:
        order = self._judge.orders.get(command_id)
        if order is not None:
            order.states.setdefault(self.name, []).append(state)

    def agent(self, agent: str, status: str) -> None:
        if self.status.get(agent, "offline") == status:
            self._judge.fault(f"{self.name} was told that {agent} is {status}, which it was")
        self.status[agent] = status
        self.changes += 1

    def gap(self, event_type: str) -> None:
        self.gaps += 1
        if event_type == "agent.status":
            self.status.clear()
