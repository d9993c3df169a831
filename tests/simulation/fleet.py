"""The fleet of one run: carries out a plan."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from twisted.logger import LogEvent, formatEvent
from twisted.python.failure import Failure

from tests.simulation.agents import Agent, Body
from tests.simulation.callers import Caller
from tests.simulation.clients import Client
from tests.simulation.clock import START, Time
from tests.simulation.duty import Duty, Order
from tests.simulation.judge import Filter, Violation
from tests.simulation.nodes import MakeCore, Node
from tests.simulation.plan import Plan, Step
from tests.simulation.server import Server
from tests.simulation.truth import Truth

MakeServer = Callable[[Time, Plan, Truth], Server]


class Fleet:
    """Nodes, their bus and their clients. `story` is what happened, where somebody wants to read it."""

    def __init__(self, plan: Plan, core: MakeCore, server: MakeServer, told: bool) -> None:
        self.time = Time()
        self.truth = Truth()
        self.server = server(self.time, plan, self.truth)
        self.delay = plan.delay
        self.queue = plan.queue
        self.story: list[str] = []
        self._told = told
        self._plan = plan
        self._core = core
        self._error: Failure | None = None  # that a node met with
        self._uids = count(1)
        self._lives = count(1)
        self.duty = Duty(self.time, plan.labour.grace if plan.labour is not None else 0.0)
        self._orders = count(1)
        self._nodes: list[Node | None] = [None] * plan.nodes
        for number in range(plan.nodes):
            self.start(number)
        self._clients = [
            Client(self, number, limited, Random(f"{plan.seed} client {number}"))
            for number, limited in enumerate(plan.limited)
        ]
        self._agents: list[Agent] = []
        self._callers: list[Caller] = []
        if plan.labour is not None:
            self.server.witness = self._witness
            self._agents = [
                Agent(self, number, commands, Random(f"{plan.seed} agent {number}"))
                for number, commands in enumerate(plan.labour.agents)
            ]
            self._callers = [
                Caller(self, number, Random(f"{plan.seed} caller {number}")) for number in range(plan.labour.callers)
            ]

    def run(self) -> None:
        """Raises `Violation`."""
        steps = self._plan.steps
        for step in steps:
            self.time.at(START + step.at, lambda step=step: self._do(step))  # type: ignore[misc]
        end = START + max((step.at for step in steps), default=0.0)
        self.time.run(end)
        self.log(lambda: "--- all is whole again")
        self.server.up = True
        for number in range(len(self._nodes)):
            self.start(number)
        for node in self._nodes:
            assert node is not None
            node.bus.isolated = False
            node.clock.go_on()
        self.time.run(end + self._plan.quiet)
        for client in self._clients:
            if not client.known:
                continue
            if client.connection is None or not client.connection.ready:
                raise Violation("connections", f"{client} could not come back")
            client.connection.judge.settled(self.time.now)
        self._rest()
        for node in self._nodes:
            assert node is not None
            node.core.settled()
        self._check()

    def _rest(self) -> None:
        """All that work have come back, and all is done."""
        for caller in self._callers:
            if caller.known and (caller.connection is None or not caller.connection.ready):
                raise Violation("connections", f"{caller} could not come back")
            for command_id, request in caller.waiting.items():
                order = self.duty.orders[command_id]
                if order.busy and order.announced:
                    continue
                raise Violation("ends", f"{caller} was not told how {request} has ended")
        for agent in self._agents:
            if agent.body is not None and not agent.body.there:
                raise Violation("connections", f"{agent.body} could not come back")
        self.duty.settled()

    def log(self, text: Callable[[], str]) -> None:
        if self._told:
            self.story.append(f"{self.time.now - START:8.3f} {text()}")

    def _witness(self, event_type: str, data: Any) -> None:
        self.log(lambda: f"published: {event_type} {data}")
        self.duty.witness(event_type, data)

    def logged(self, event: LogEvent) -> None:
        """Something went into the log of a node."""
        self.log(lambda: f"log: {formatEvent(event)}")
        if "log_failure" in event and self._error is None:
            self._error = event["log_failure"]

    def new_uid(self) -> int:
        return next(self._uids)

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.time.at(self.time.now + seconds, act)

    def rivals(self, body: Body) -> bool:
        """Whether another process works as the same agent, or did."""
        return any(body in agent.bodies and len(agent.bodies) > 1 for agent in self._agents)

    def node(self, number: int) -> Node | None:
        return self._nodes[number % len(self._nodes)]

    # --- steps

    def _do(self, step: Step) -> None:
        self.log(lambda: f"=== {step.what} {' '.join(map(str, step.arguments))}")
        getattr(self, step.what)(*step.arguments)
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise Violation("errors", self._error.getTraceback())

    def come(self, client: int, node: int) -> None:
        self._clients[client].come(node)

    def subscribe(self, client: int, events: tuple[str, ...], condition: Filter) -> None:
        self._clients[client].subscribe(events, condition)

    def unsubscribe(self, client: int, text: str) -> None:
        self._clients[client].unsubscribe(text)

    def publish(self, client: int, event_type: str, kind: int, size: int) -> None:
        self._clients[client].publish(event_type, kind, size)

    def ping(self, client: int) -> None:
        self._clients[client].ping()

    def drop(self, client: int, notice: float, back: float, node: int) -> None:
        self._clients[client].drop(notice, back, node)

    def leave(self, client: int) -> None:
        self._clients[client].leave()

    def stall_client(self, client: int, seconds: float) -> None:
        connection = self._clients[client].connection
        if connection is not None:
            connection.stall(seconds)

    def agent_comes(self, agent: int, node: int) -> None:
        self._agents[agent].come(node)

    def agent_moves(self, agent: int, node: int) -> None:
        self._agents[agent].move(node)

    def agent_drops(self, agent: int, notice: float, back: float, node: int) -> None:
        self._agents[agent].drop(notice, back, node)

    def agent_rests(self, agent: int, notice: float) -> None:
        self._agents[agent].drop(notice, None, 0)

    def caller_comes(self, caller: int, node: int) -> None:
        self._callers[caller].come(node)

    def caller_drops(self, caller: int, notice: float, back: float, node: int) -> None:
        self._callers[caller].drop(notice, back, node)

    def command(
        self,
        caller: int,
        command: str,
        target: str | tuple[str, ...] | None,
        timeout: float,
        ttl: float,
        retries: int,
        work: str,
    ) -> None:
        request = {
            "type": "command",
            "commandId": f"order-{next(self._orders)}",
            "command": command,
            "parameters": {"work": work},
            "timeout": timeout,
            "ttl": ttl,
            "retries": retries,
        }
        if target is not None:
            request["target"] = list(target) if isinstance(target, tuple) else target
        self._callers[caller].call(request)

    def again(self, caller: int, back: int) -> None:
        """Ask again for one of the last commands, whoever has given it."""
        order = self._last_order(back)
        if order is not None and not order.refused:
            self._callers[caller].call(order.request)

    def cancel(self, caller: int, back: int) -> None:
        order = self._last_order(back)
        if order is not None:
            self._callers[caller].cancel(order.id)

    def _last_order(self, back: int) -> Order | None:
        orders = list(self.duty.orders.values())
        return orders[-back] if len(orders) >= back else None

    def isolate(self, node: int, notice: float, seconds: float) -> None:
        """The node cannot reach the bus for a while."""
        found = self._nodes[node]
        if found is not None:
            found.bus.isolated = True
            self.cut_link(node, notice)

            def mended() -> None:
                found.bus.isolated = False
                self._trouble(found)

            self.after(seconds, mended)

    def step_clock(self, node: int, seconds: float) -> None:
        found = self._nodes[node]
        if found is not None:
            found.clock.step(seconds)

    def _trouble(self, node: Node) -> None:
        node.troubled_at = self.time.now
        self.duty.troubled(node)

    def cut_link(self, node: int, notice: float) -> None:
        found = self._nodes[node]
        if found is not None:
            self._trouble(found)
        link = found.bus.link if found is not None else None
        if link is not None:
            link.cut()
            self.time.at(self.time.now + notice, link.end)

    def stall_link(self, node: int, pipe: int, seconds: float) -> None:
        found = self._nodes[node]
        if found is not None and found.bus.link is not None:
            found.bus.link.pipes[pipe].stall(seconds)
            self._trouble(found)
            self.after(seconds, lambda: self._trouble(found))

    def kill(self, node: int) -> None:
        found, self._nodes[node] = self._nodes[node], None
        if found is not None:
            self._trouble(found)
            found.die()
            for connection in list(found.connections):
                connection.die()

    def start(self, node: int) -> None:
        if self._nodes[node] is None:
            life = next(self._lives)
            self.duty.started()
            chance = Random(f"{self._plan.seed} node {node} {life}")
            self._nodes[node] = Node(node, life, self.time, self.server, chance, self._plan, self._core)

    def stop_process(self, node: int, seconds: float) -> None:
        found = self._nodes[node]
        if found is not None:
            self._trouble(found)
            found.clock.stop()

            def go_on() -> None:
                self._trouble(found)
                found.clock.go_on()

            self.after(seconds, go_on)

    def server_down(self, *notices: float) -> None:
        self.server.up = False
        for node, notice in enumerate(notices):
            self.cut_link(node, notice)

    def restart(self) -> None:
        self._ends()
        self.server.restart()

    def falls_behind(self) -> None:
        self.server.falls_behind()
        self.duty.copied()

    def fail_over(self) -> None:
        self._ends()
        self.server.fail_over()
        self.duty.relapsed()

    def restart_empty(self) -> None:
        self._ends()
        self.server.restart_empty()
        self.duty.forgotten()

    def _ends(self) -> None:
        """The process of the server ends, if it still goes on, and another begins."""
        if self.server.up:
            self.server_down(*(0.0 for _ in self._nodes))
        self.server.up = True

    def flush(self) -> None:
        self.server.flush()
        self.duty.forgotten()
