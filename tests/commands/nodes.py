"""Several nodes of a fleet in one process, each with all that commands need."""

from __future__ import annotations

from twisted.internet.task import Clock

from nexus_tw.bus.memory import MemoryBroker
from nexus_tw.commands.calls import Calls, PlainCall
from nexus_tw.interfaces.realm import CallRequest
from nexus_tw.model.payloads import Payload
from nexus_tw.model.settings import Limits
from nexus_tw.runtime.client_log import ClientLog
from tests.commands.world import World
from tests.fleet.pretend import Pretended, PretendedFleet
from tests.recording import RecordingCallReply, RecordingPeer

ONE = Payload.of_value(b"1")


class Node(World):
    """One node; `fleet` is its fleet."""

    fleet: PretendedFleet

    def __init__(self, clock: Clock, fleet: PretendedFleet, broker: MemoryBroker) -> None:
        super().__init__(clock=clock, fleet=fleet, broker=broker)
        self.limits = Limits()
        journal = ClientLog("calls", self.clock, self.metrics)
        self.calls = Calls(self.clock, self.registry, self.metrics, self.limits, False, journal)
        self.remotes = self.fleetwide.remotes
        self.guests = self.fleetwide.guests

    def plain(
        self,
        procedure: str = "deploy",
        payload: Payload = ONE,
        timeout: float = 0.0,
        progressive: bool = True,
        more: bool = False,
        by: RecordingPeer | None = None,
        reply: RecordingCallReply | None = None,
    ) -> tuple[PlainCall, RecordingCallReply]:
        """Make a plain call."""
        reply = reply or RecordingCallReply()
        caller = by or self.caller
        request = CallRequest(procedure, payload, timeout, progressive, more, False, None)
        return self.calls.call(caller, caller.principal, request, reply), reply


class Nodes:
    """Nodes by name, which know each other. What they tell each other arrives by `deliver`."""

    def __init__(self, *names: str) -> None:
        self.broker = MemoryBroker(Clock())
        self.world = Pretended()
        self.nodes: dict[str, Node] = {}
        for name in names:
            self.add(name)

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def add(self, name: str) -> Node:
        """Let a node join."""
        fleet = self.world.node(name)
        clock = Clock()
        clock.advance(3600.0 * len(self.nodes))  # no clock is right
        node = self.nodes[name] = Node(clock, fleet, self.broker)
        self.world.join(fleet)
        return node

    def kill(self, name: str, heir: str | None = None) -> Node:
        """Let a node die: the others are told at once."""
        node = self.nodes.pop(name)
        self.world.kill(name, heir)
        return node

    def rename(self, name: str, new: str) -> None:
        """Let the others give a node up that lives: it comes back under a new name."""
        node = self.nodes.pop(name)
        self.world.kill(name)
        node.fleet.members.clear()
        node.fleet.node = new
        self.nodes[new] = node
        node.fleet.renew()
        self.world.join(node.fleet)

    def deliver(self) -> None:
        """Deliver all that was told, and let the turns pass that it takes."""
        for _ in range(4):
            self.advance(0)
            self.world.deliver()
        self.advance(0)

    def advance(self, seconds: float) -> None:
        for node in list(self.nodes.values()):
            node.clock.advance(seconds)
