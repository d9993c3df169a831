"""Callers: they give commands, and ask again for what they were not told, at whatever node they come back to."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Final

from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Role
from tests.simulation.clients import short
from tests.simulation.connection import RETRY, Connection
from tests.simulation.duty import REFUSALS
from tests.simulation.judge import Violation

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet

CALLS: Final = Role(call=("**",))
AGAIN: Final = frozenset({"bus_unavailable", "store_unavailable", "shutting_down"})  # nothing is known of the command
ENDS: Final = frozenset({"cancelled", "expired", "timeout", "agent_lost", "failed"}) | REFUSALS


class Caller:
    """One client; all of them are the same subject."""

    def __init__(self, fleet: Fleet, number: int, chance: Random) -> None:
        self.fleet = fleet
        self.number = number
        self.principal = Principal("caller", "test", CALLS)
        self.connection: Connection | None = None
        self.known = False
        self.waiting: dict[str, dict[str, Any]] = {}  # requests by the id of their command
        self._chance = chance
        self._coming = False
        self._cancels = 0

    # --- what the plan says

    def come(self, node: int) -> None:
        self.known = True
        self._coming = False
        if self.connection is None:
            found = self.fleet.node(node)
            if found is None:
                self._later(0.2, node + 1)
            else:
                fleet = self.fleet
                fleet.log(lambda: f"{self} connects to {found}")
                self.connection = Connection(fleet.time, self, found, self._chance, fleet.queue, fleet.delay)

    def drop(self, notice: float, back: float, node: int) -> None:
        if self.connection is not None:
            self.fleet.log(lambda: f"{self} loses its connection")
            self.connection.cut(notice)
            self.connection = None
            self._later(back, node)

    def call(self, request: dict[str, Any]) -> None:
        """Give a command, or ask again how it has ended."""
        if self._ready():
            self.fleet.duty.given(request)
            self.waiting[request["commandId"]] = request
            self._send(request)

    def cancel(self, command_id: str) -> None:
        if self._ready():
            self._cancels += 1
            self._send({"type": "cancel", "commandId": command_id, "id": f"cancel-{self._cancels}"})

    # --- what happens to it

    def received(self, connection: Connection, message: dict[str, Any]) -> None:
        self.fleet.log(lambda: f"{self} gets {short(message)}")
        kind = message["type"]
        if kind == "connected":
            connection.ready = True
            for request in list(self.waiting.values()):
                self.call(request)
        elif kind == "command_result":
            self._result(message)
        elif kind == "error":
            self._error(message)
        elif kind not in ("command_progress", "disconnect"):
            raise Violation("answers", f"what is that? {message}")

    def lost(self, connection: Connection, back: float) -> None:
        if connection is self.connection:
            connection.over = True
            self.connection = None
            self._later(back or self._chance.uniform(0.01, 0.5), self._chance.randrange(8))

    # ---

    def _result(self, message: dict[str, Any]) -> None:
        duty, command_id = self.fleet.duty, message["commandId"]
        order = duty.orders[command_id]
        if not order.several:
            self._over(command_id)
            duty.told(command_id, order.request.get("target"), "success", message["data"]["result"])
        elif "agentId" in message:
            duty.told(command_id, message["agentId"], *_outcome(message, message.get("data", {}).get("result")))
        else:
            self._over(command_id)
            for one in message["data"]["results"]:
                duty.told(command_id, one["agentId"], *_outcome(one, one.get("result")))
            duty.ended(command_id, "summary")

    def _error(self, message: dict[str, Any]) -> None:
        duty, code = self.fleet.duty, message["code"]
        command_id = message.get("commandId")
        if str(message.get("id", "")).startswith("cancel-") and code != "cancelled":
            if code not in AGAIN and code != "not_found":
                raise Violation("answers", f"a command could not be cancelled: {message}")
            return
        order = duty.orders.get(command_id or "")
        if order is not None and order.loose and code == "not_found":
            self._over(order.id)
            return
        if order is None or code not in AGAIN | ENDS:
            raise Violation("answers", f"{command_id} was refused: {message}")
        order.busy = code == "rate_limited"
        if code in AGAIN or order.busy:
            request = self.waiting.get(order.id)
            if request is not None:
                self.fleet.after(RETRY, lambda: self.call(request) if order.id in self.waiting else None)
            return
        self._over(order.id)
        if order.several:
            duty.ended(order.id, code)
        else:
            duty.told(order.id, order.request.get("target"), code, None)

    def _over(self, command_id: str) -> None:
        self.waiting.pop(command_id, None)

    def _ready(self) -> bool:
        return self.connection is not None and self.connection.ready

    def _later(self, seconds: float, node: int) -> None:
        if not self._coming:
            self._coming = True
            self.fleet.after(seconds, lambda: self.come(node))

    def _send(self, message: dict[str, Any]) -> None:
        assert self.connection is not None
        self.fleet.log(lambda: f"{self} sends {short(message)}")
        self.connection.send(message)

    def __repr__(self) -> str:
        return f"caller {self.number}"


def _outcome(told: dict[str, Any], result: Any) -> tuple[str, Any]:
    return ("success", result) if told["status"] == "success" else (told["code"], None)
