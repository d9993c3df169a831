"""Holds what becomes of commands and agents against what is promised.

A command ends once: everybody who asks is told the same end, and one final state is announced, after others that may follow
each other. It is executed at most once, and once more for each of its `retries`; by one at a time; each further attempt has a
higher number. One that expires was executed by nobody. An agent is announced online and offline in turn, and not as offline
within its grace.

Where no node could know better, nothing is held against them: what the bus has lost with its data is `loose`; a node that
stands still or is cut off from the bus cannot stop what it executes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from tests.reliability.duty import FINAL, FOLLOW
from tests.simulation.judge import Violation
from tests.simulation.nodes import Node

if TYPE_CHECKING:
    from tests.simulation.agents import Body
    from tests.simulation.clock import Time
    from tests.simulation.connection import Connection

# By outcome, or itself; of others: failed.
STATES: Final = {"success": "completed", **{state: state for state in ("completed", "cancelled", "expired")}}
RECENT: Final = 15.0  # s for which the consequences of a fault may still be seen
JOINING: Final = 5.0  # s after which a node knows the others, at the latest
REFUSALS: Final = frozenset({"agent_offline", "no_such_command", "rate_limited"})

Target = str | None  # None: any agent


class Execution:
    """What one agent does about one attempt. Over once it has answered, has been told to stop, or either end of its connection
    has gone."""

    def __init__(self, agent: str, attempt: int, connection: Connection) -> None:
        self.agent = agent
        self.attempt = attempt
        self.connection = connection
        self.answered = False
        self.stopped = False

    @property
    def running(self) -> bool:
        return not (self.answered or self.stopped or self.connection.over or self.connection.wire.closed)


class Part:
    """A command for one of its targets."""

    def __init__(self) -> None:
        self.executions: list[Execution] = []
        self.outcome: tuple[str, Any] | None = None  # `success` or a code; the result
        self.states: list[str] = []  # that were announced

    @property
    def finals(self) -> list[str]:
        return [state for state in self.states if state in FINAL]


class Order:
    """A command."""

    def __init__(self, request: dict[str, Any], given: float) -> None:
        self.request = request
        self.given = given
        target: Any = request.get("target")
        self.several = isinstance(target, list)
        self.parts: dict[Target, Part] = {one: Part() for one in (target if self.several else [target])}
        self.busy = False  # its caller, or the only agent for it, has too much to read
        self.whole: list[str] = []  # final states announced of one with several targets
        self.ended = ""  # how the whole one with several targets has ended: as a summary, or a code
        self.refused = False
        self.loose = False
        self.exposed = False  # the bus has lost data since it was given
        self.told = 0

    @property
    def id(self) -> str:
        return str(self.request["commandId"])

    @property
    def over(self) -> bool:
        return self.refused or bool(self.ended) or all(part.outcome is not None for part in self.parts.values())

    @property
    def announced(self) -> bool:
        """Whether the nodes have said that it has ended."""
        return bool(self.whole if self.several else self.parts[next(iter(self.parts))].finals)

    def part(self, agent: str) -> Part:
        return self.parts[agent if agent in self.parts else None]


class Duty:
    """All commands and agents of a run."""

    def __init__(self, time: Time, grace: float) -> None:
        self.orders: dict[str, Order] = {}
        self._time = time
        self._grace = grace
        self._status: dict[str, str] = {}
        self._bodies: dict[str, list[Body]] = {}
        self._trouble = -math.inf  # when something was last lost or late between node and bus, or a node
        self._changes: dict[str, int] = {}  # how often each agent's status has changed
        self._copied: dict[str, int] = {}  # the same, in the copy that the bus may fall back to
        self._vague: set[str] = set()  # agents of which nobody knows what was told last
        self._troubles: dict[Node, float] = {}  # when each was last out of touch
        self._started = -math.inf  # when the last node has started
        self._loss = -math.inf  # when the bus has last lost data

    # --- faults

    def troubled(self, node: Node) -> None:
        """A node or its link is broken, or mended: what the bus has lost may be lost with it."""
        self._trouble = self._time.now
        for order in self.orders.values():
            order.loose = order.loose or order.exposed
        self._troubles[node] = self._time.now
        self._forget_agents()

    def started(self) -> None:
        """A node has started: at first it does not know the others."""
        self._started = self._time.now

    def _forget_agents(self) -> None:
        """What the bus and a node that was out of touch knew of agents is lost with both."""
        nodes = [node for node, when in self._troubles.items() if abs(when - self._loss) < RECENT or node.out_of_touch]
        if self._recent(self._loss):
            for agent, bodies in self._bodies.items():
                if self._loss - self._started < JOINING or any(body.was_at(node) for node in nodes for body in bodies):
                    self._vague.add(agent)

    def copied(self) -> None:
        """From now on the replica of the bus gets nothing."""
        self._copied = dict(self._changes)

    def relapsed(self) -> None:
        """The bus went back to the copy."""
        self._vague |= {agent for agent, changes in self._changes.items() if self._copied.get(agent, 0) != changes}
        self.forgotten()

    def forgotten(self) -> None:
        """The bus has lost data."""
        for order in self.orders.values():
            order.exposed = True
            order.loose = order.loose or self._recent(self._trouble)
        self._trouble = self._loss = self._time.now
        self._forget_agents()

    def _recent(self, when: float) -> bool:
        return self._time.now - when < RECENT

    def _unreliable(self, node: Node) -> bool:
        return node.out_of_touch or self._recent(node.troubled_at)

    # --- commands

    def given(self, request: dict[str, Any]) -> Order:
        """A caller gives a command, perhaps not for the first time."""
        order = self.orders.get(request["commandId"])
        if order is None:
            order = self.orders[request["commandId"]] = Order(request, self._time.now)
        elif order.exposed:
            order.loose = True
        return order

    def began(self, command_id: str, agent: str, attempt: int, connection: Connection) -> Execution:
        """An agent gets a command."""
        order = self.orders[command_id]
        execution = Execution(agent, attempt, connection)
        if agent not in order.parts and None not in order.parts:
            raise Violation("targets", f"{command_id} is for {list(order.parts)}, and {agent} got it")
        part = order.part(agent)
        before = part.executions
        if not execution.running:
            # Its node has ended the connection while this was on its way: it is over before it begins.
            before.insert(sum(other.attempt < attempt for other in before), execution)
        elif not order.loose:
            for other in before:
                if other.running and not self._unreliable(other.connection.node):
                    raise Violation("executions", f"{command_id} is executed by {other.agent} and {agent} at a time")
            if before and attempt <= before[-1].attempt:
                raise Violation("attempts", f"{command_id} was attempt {before[-1].attempt}, then {attempt}")
            if len(before) > order.request["retries"]:
                raise Violation("executions", f"{command_id} is executed {len(before) + 1} times, attempt {attempt}")
            if part.outcome is not None and part.outcome[0] == "expired":
                raise Violation("expiry", f"{command_id} has expired, and is executed")
        if execution not in before:
            before.append(execution)
        return execution

    def told(self, command_id: str, target: Target, outcome: str, result: Any) -> None:
        """Somebody is told how a command has ended for a target: `success` with its result, or a code."""
        order = self.orders[command_id]
        order.told += 1
        if order.loose:
            self._settle(order, target, outcome, result)
            return
        single = not order.several
        if single and outcome in REFUSALS and not order.request["ttl"]:
            # It is not kept, unless it was taken and its agent went before it was handed over.
            order.refused = True
            return
        part = order.parts[target]
        if part.outcome is not None and part.outcome != (outcome, result):
            raise Violation("outcomes", f"{command_id} for {target} ended as {part.outcome}, and as {(outcome, result)}")
        if outcome == "success":
            found = [one for one in part.executions if (one.agent, one.attempt) == (result["agent"], result["attempt"])]
            if not found or result["late"] or not found[0].answered:
                raise Violation("outcomes", f"{command_id} has succeeded by {result}, which does not count")
            if found[0] is not part.executions[-1]:
                raise Violation("fences", f"{command_id} has succeeded by attempt {result}, and is executed again since")
        if outcome == "expired" and part.executions:
            raise Violation("expiry", f"{command_id} has expired, and was executed")
        self._settle(order, target, outcome, result)

    def _settle(self, order: Order, target: Target, outcome: str, result: Any) -> None:
        part = order.parts[target]
        if part.outcome is None:
            part.outcome = outcome, result

    def ended(self, command_id: str, how: str) -> None:
        """Somebody is told how a command with several targets has ended: as a `summary`, or with a code."""
        order = self.orders[command_id]
        order.told += 1
        if order.ended and order.ended != how and not order.loose:
            raise Violation("outcomes", f"{command_id} ended as {order.ended}, and as {how}")
        order.ended = order.ended or how

    # --- what the nodes announce

    def witness(self, event_type: str, data: Any) -> None:
        if event_type == "agent.status":
            self._changed(data["agentId"], data["status"])
        elif event_type == "task.updated" and data["taskId"] in self.orders:
            self._announced(self.orders[data["taskId"]], data)

    def _announced(self, order: Order, data: Any) -> None:
        if not order.several:
            states = order.parts[next(iter(order.parts))].states
        elif "agentId" in data:
            states = order.parts[data["agentId"]].states
        else:
            states = order.whole
        state = data["status"]
        follows = state in FOLLOW.get(states[-1] if states else "", ())
        if states is order.whole:
            follows = not states and state in FINAL and all(part.finals for part in order.parts.values())
        states.append(state)
        if not follows and not order.loose and not order.exposed:
            raise Violation("announcements", f"{order.id} was announced as {states}, {data}")

    # --- agents

    def comes(self, body: Body) -> None:
        self._bodies.setdefault(body.agent, []).append(body)

    def status(self, agent: str) -> str:
        """The status that was announced last."""
        return self._status.get(agent, "offline")

    def _changed(self, agent: str, status: str) -> None:
        bodies = self._bodies.get(agent)
        if bodies is None:
            raise Violation("presence", f"{agent} is {status}, and was never there")
        self._changes[agent] = self._changes.get(agent, 0) + 1
        if self.status(agent) == status and agent not in self._vague:
            raise Violation("presence", f"{agent} is {status}, which it was")
        self._status[agent] = status
        if status == "online":
            return
        for body in bodies:
            here = body.connection
            if here is not None and here.ready and not self._unreliable(here.node):
                raise Violation("presence", f"{agent} is told as offline, and is at {here.node}")
            left = body.left
            if left is not None and not self._unreliable(left.node) and self._time.now - left.when < self._grace - 1e-6:
                raise Violation("grace", f"{agent} left {left.node} {self._time.now - left.when:.3f} s ago, and is offline")

    # --- at the end

    def settled(self) -> None:
        """All is quiet: everything has ended and was announced, and presence is true."""
        for order in self.orders.values():
            self._check(order)
        for agent, bodies in self._bodies.items():
            there = [body for body in bodies if body.there]
            if len(there) > 1:
                nodes = [body.connection.node for body in there if body.connection is not None]
                raise Violation("fences", f"{agent} is at {nodes} at a time")
            wanted = "online" if there else "offline"
            if self.status(agent) != wanted and agent not in self._vague:
                raise Violation("presence", f"{agent} is {wanted}, and was told as {self.status(agent)}")

    def _check(self, order: Order) -> None:
        if order.loose or order.refused:
            return
        for target, part in order.parts.items():
            outcome = part.outcome
            if outcome is None and order.ended not in ("", "summary"):
                # It ended with the whole, or before that, when nobody was there to be told.
                outcome = (part.finals[0] if part.finals else order.ended), None
            if outcome is None:
                if order.told:
                    raise Violation("outcomes", f"{order.id} has no end for {target}")
                continue
            if any(one.running for one in part.executions):
                raise Violation("executions", f"{order.id} has ended as {outcome}, and is still executed")
            self._check_finals(order, part.finals, STATES.get(outcome[0], "failed"))

    def _check_finals(self, order: Order, finals: list[str], state: str) -> None:
        if finals and finals[0] != state:
            raise Violation("announcements", f"{order.id} has ended as {state}, and was announced as {finals}")
        if not finals and not order.exposed:
            raise Violation("announcements", f"{order.id} has ended as {state}, and that was not announced")
