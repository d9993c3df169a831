"""Agents as a client library makes them: they register, execute, and come back to whatever node."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Role
from tests.protocols.link import texts
from tests.simulation.clients import short
from tests.simulation.connection import RETRY, Connection
from tests.simulation.duty import Execution
from tests.simulation.judge import Violation
from tests.simulation.nodes import Node

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet

WORKS: Final = Role(register=("**",), telemetry=("**",))
REPLACED: Final = 4003

_decode: Final = msgspec.json.Decoder().decode


class Left(NamedTuple):
    """The last connection that is gone: where, and since when."""

    node: Node
    when: float


class Body:
    """One process that works as an agent."""

    def __init__(self, fleet: Fleet, agent: str, number: int, commands: tuple[str, ...], chance: Random) -> None:
        self.fleet = fleet
        self.agent = agent
        self._number = number
        self.principal = Principal(agent, "test", WORKS)
        self.connection: Connection | None = None
        self.left: Left | None = None  # unless the bus cannot have heard of it
        self._registered = 0.0  # when it was told so last
        self.wanted = True  # whether it comes back
        self._commands = commands
        self._chance = chance
        self._executions: dict[str, Execution] = {}  # the last one of each command
        self._coming = False
        # Whether it has left before it was told that it was registered: its own registration may overtake a later one.
        self._hasty = False
        self._nodes: list[Node] = []  # those that it was connected to
        fleet.duty.comes(self)

    @property
    def there(self) -> bool:
        """Whether it is connected and has registered."""
        return self.connection is not None and self.connection.ready

    def was_at(self, node: Node) -> bool:
        """Whether it is connected to that node, or was before."""
        return node in self._nodes

    # --- what the plan says

    def come(self, node: int) -> None:
        self._coming = False
        if self.connection is not None or not self.wanted:
            return
        found = self.fleet.node(node)
        if found is None:
            self._later(0.2, node + 1)
            return
        fleet = self.fleet
        fleet.log(lambda: f"{self} connects to {found}")
        self._nodes.append(found)
        # What the node itself has ended is over, though the agent may not have heard of it yet.
        self.connection = Connection(fleet.time, self, found, self._chance, fleet.queue, fleet.delay, self._written)

    def drop(self, notice: float, back: float | None, node: int) -> None:
        """`back` is None if it does not come back."""
        self.wanted = back is not None
        connection = self.connection
        if connection is not None:
            self.fleet.log(lambda: f"{self} loses its connection; back: {back}")
            connection.cut(notice)
            self._gone(connection)
            if back is not None:
                self._later(back, node)

    # --- what happens to it

    def received(self, connection: Connection, message: dict[str, Any]) -> None:
        self.fleet.log(lambda: f"{self} gets {short(message)}")
        kind = message["type"]
        if kind == "connected":
            self._register(connection)
        elif kind == "registered":
            connection.ready = True
            self._registered = self.fleet.time.now
        elif kind == "command":
            self._execute(connection, message)
        elif kind == "command_cancel":
            self._stop(message["commandId"])
        elif kind == "disconnect" and message["code"] == REPLACED:
            if not self._hasty and not self.fleet.rivals(self):
                raise Violation("fences", f"{self} was replaced, and nobody else is there")
            self.wanted = False
        elif kind == "error" and message.get("retryable"):
            self.fleet.after(RETRY, lambda: self._register(connection))
        elif kind == "error" and message["code"] != "not_found":  # an answer that nobody waits for
            raise Violation("answers", f"{self} was refused: {message}")

    def lost(self, connection: Connection, back: float) -> None:
        if connection is self.connection:
            self._gone(connection)
            if self.wanted:
                self._later(back or self._chance.uniform(0.01, 0.5), self._chance.randrange(8))

    def _gone(self, connection: Connection) -> None:
        connection.over = True
        if connection.ready:
            bus = connection.node.bus
            # Whoever comes and goes while the bus is away has no grace, as nobody but this node knows of it.
            heard = bus.available or bus.down_since > self._registered
            self.left = Left(connection.node, self.fleet.time.now) if heard else None
        else:
            self._hasty = True
        self.connection = None

    def _later(self, seconds: float, node: int) -> None:
        if not self._coming:
            self._coming = True
            self.fleet.after(seconds, lambda: self.come(node))

    def _register(self, connection: Connection) -> None:
        if connection is self.connection:
            self._send({"type": "register", "commands": list(self._commands), "agentId": self.agent, "id": "r"})

    def _send(self, message: dict[str, Any]) -> None:
        if self.connection is not None:
            self.fleet.log(lambda: f"{self} sends {short(message)}")
            self.connection.send(message)

    # --- work

    def _written(self, data: bytes) -> None:
        for text in texts(data):
            message = _decode(text)
            if message["type"] == "command_cancel":
                execution = self._executions.get(message["commandId"])
                if execution is not None and execution.connection is self.connection:
                    execution.stopped = True

    def _execute(self, connection: Connection, message: dict[str, Any]) -> None:
        command_id = message["commandId"]
        execution = self.fleet.duty.began(command_id, self.agent, message["attempt"], connection)
        self._executions[command_id] = execution
        work = message["parameters"]["work"]
        pause = self._chance.uniform(0.3, 3) if work in ("slow", "told", "late") else self._chance.uniform(0, 0.1)
        if work == "told":
            self.fleet.after(pause / 2, lambda: self._progress(command_id, execution))
        if work != "never":
            self.fleet.after(pause, lambda: self._answer(command_id, execution, work))

    def _stop(self, command_id: str) -> None:
        execution = self._executions.get(command_id)
        if execution is not None and execution.connection is self.connection:
            execution.stopped = True

    def _progress(self, command_id: str, execution: Execution) -> None:
        if execution.running:
            self._send({"type": "command_progress", "commandId": command_id, "data": {"percent": 50}})

    def _answer(self, command_id: str, execution: Execution, work: str) -> None:
        if self._executions.get(command_id) is not execution:
            return
        late = not execution.running
        retried = self.fleet.duty.orders[command_id].request["retries"] > 0
        # An answer names no attempt: a library does not send one over a connection over which the next attempt may come.
        if late and (work != "late" or (retried and execution.connection is not self.connection)):
            return
        result = {"agent": execution.agent, "attempt": execution.attempt, "late": late}
        if not late:
            execution.answered = True
        message = {"type": "command_result", "commandId": command_id, "status": "success", "data": result}
        if work == "fails":
            message |= {"status": "error", "message": "no"}
        self._send(message)

    def __repr__(self) -> str:
        return f"{self.agent}/{self._number}"


class Agent:
    """An agent id, and whatever works under it."""

    def __init__(self, fleet: Fleet, number: int, commands: tuple[str, ...], chance: Random) -> None:
        self._fleet = fleet
        self._name = f"agent-{number}"
        self._commands = commands
        self._chance = chance
        self.bodies: list[Body] = []

    @property
    def body(self) -> Body | None:
        """The last process that wants to be there."""
        return next((body for body in reversed(self.bodies) if body.wanted), None)

    def come(self, node: int) -> None:
        """Unless it is there."""
        if self.body is None:
            self.move(node)

    def move(self, node: int) -> None:
        """Another process begins to work under this id."""
        body = Body(self._fleet, self._name, len(self.bodies), self._commands, self._chance)
        self.bodies.append(body)
        body.come(node)

    def drop(self, notice: float, back: float | None, node: int) -> None:
        if self.body is not None:
            self.body.drop(notice, back, node)
