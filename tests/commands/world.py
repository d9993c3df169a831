"""Commands with all their collaborators, but without sessions and sockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import pytest
from msgspec import Raw
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.commands.answers import Answers
from nexus_tw.commands.fleetwide import Fleetwide
from nexus_tw.commands.handlers import HELD, HandlerExecutor
from nexus_tw.commands.invocations import Invocations
from nexus_tw.commands.registering import Registrar
from nexus_tw.commands.registry import Registry
from nexus_tw.commands.tasks import Commands
from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.interfaces.ledger import ILedger
from nexus_tw.interfaces.plugins import Handler
from nexus_tw.model.budgets import Budget
from nexus_tw.model.commands import CommandAnswer, CommandRequest
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.settings import Limits
from nexus_tw.presence.sessions import Roster
from nexus_tw.protocols.native.messages import CommandInvocation
from nexus_tw.pubsub.hub import Hub
from nexus_tw.pubsub.meta_events import Meta
from nexus_tw.pubsub.watching import Watching
from nexus_tw.runtime.client_log import ClientLog
from nexus_tw.runtime.spread import Spread
from nexus_tw.runtime.turn import Turn
from tests.fleet.pretend import Pretended
from tests.presence.world import presence_alone
from tests.recording import RecordingAnnouncer, RecordingPeer, RecordingReply, principal


class World:
    def __init__(
        self,
        handlers: Mapping[str, Handler] | None = None,
        limits: Limits | None = None,
        clock: Clock | None = None,
        disclose: bool = False,
        fleet: Fleet | None = None,
        broker: MemoryBroker | None = None,
        ledger: ILedger | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.fleet = fleet or Pretended().node("one")
        self.bus = MemoryBus(broker or MemoryBroker(self.clock), self.fleet.node)
        self.bus.available = True
        self.announced = RecordingAnnouncer()
        self.metrics = Metrics()
        self.spread = Spread(self.clock)
        self.presence = presence_alone(self.announced, self.clock, Limits(), self.metrics, self.spread)
        self.hub = Hub(lambda _callback: None, self.metrics, self.clock.seconds)
        limits = limits or Limits()
        self.invocations = Invocations(Limits())
        self.registry = Registry(Random(1), self.invocations)
        for name, handler in (handlers or {}).items():
            self.registry.serve(name, HandlerExecutor(handler, Budget("handler_bytes", HELD, limits, self.metrics)))
        self.commands = Commands(
            self.clock,
            self.announced,
            self.presence,
            self.spread,
            self.registry,
            limits,
            self.metrics,
            ClientLog("calls", self.clock, self.metrics),
            disclose,
            lambda: ledger,
            self.fleet,
        )
        self.answers = Answers(self.invocations, limits, self.metrics)
        self.fleetwide = Fleetwide(
            self.bus,
            self.fleet,
            Turn(self.clock).add,
            self.clock,
            self.spread,
            self.registry,
            self.metrics,
            self.commands.wake,
        )
        self.commands.adopts(self.fleetwide.remotes)
        self.registrar = Registrar(
            self.clock,
            self.presence,
            self.spread,
            self.registry,
            self.invocations,
            self.commands,
            Meta(self.hub, Watching(self.fleet, self.hub, Roster(), self.clock, self.metrics)),
            limits,
            self.fleetwide,
        )
        self.caller = RecordingPeer(who=principal("caller"))

    def agent(self, agent_id: str | None = None, *commands: str) -> RecordingPeer:
        """Return a connection that executes these commands (`deploy`) as that agent."""
        peer = RecordingPeer()
        peer.multi_agent = self.registry.multi_agent
        self.register(peer, list(commands or ("deploy",)), agent_id)
        self.turn()
        return peer

    def procedure(self, peer: RecordingPeer, pattern: Pattern, invoke: str = "single", agent: str | None = None) -> int:
        """Register this like a WAMP client. Return the registration's number."""
        numbers: list[int] = []
        self.registrar.register_procedure(
            peer, peer.principal, pattern, invoke, agent, lambda made: numbers.append(made.number), raising
        )
        self.turn()
        return numbers[0]

    def register(self, peer: RecordingPeer, commands: list[str], agent_id: str | None) -> None:
        """Register these. Raise the error if that is refused."""
        self.registrar.register(peer, commands, agent_id, lambda: None, raising)

    def call(
        self,
        command: str = "deploy",
        target: str | list[str] | None = None,
        by: RecordingPeer | None = None,
        **more: Any,
    ) -> RecordingReply:
        reply = RecordingReply()
        request = CommandRequest(command=command, target=target, **more)
        self.commands.call(by or self.caller, request, reply)
        return reply

    def lose(self, peer: RecordingPeer) -> None:
        self.registrar.lost(peer)
        self.presence.gone(peer)

    def turn(self) -> None:
        self.clock.advance(0)

    def statuses(self, agents: bool = False) -> list[Any]:
        events = self.announced.of("task.updated")
        return [(event.get("agentId"), event["status"]) if agents else event["status"] for event in events]


class Turns(Clock):
    """Detects the end of a turn in which long work is done. `Clock` itself continues with the next turns at once."""

    def __init__(self, over: Callable[[], None]) -> None:
        super().__init__()
        self._over = over

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> IDelayedCall:
        def run() -> None:
            self._over()
            callable()

        if getattr(callable, "__func__", None) is Spread._next:
            return super().callLater(delay, run)
        return super().callLater(delay, callable, *args, **kw)


def raising(error: NexusError) -> None:
    raise error


def refusal(code: str) -> Any:
    """Expect a `NexusError` with this code."""
    return pytest.raises(NexusError, check=lambda error: error.code == code)


def succeed(world: World, peer: RecordingPeer, result: bytes = b'"done"', at: int = -1) -> None:
    """Have the agent answer its last invocation (or the one at `at`)."""
    invocation = peer.got(CommandInvocation)[at]
    world.answers.result(peer, CommandAnswer(command_id=invocation.command_id, data=Raw(result)))
