"""Nodes of a fleet on one memory bus and one clock, with faults: pauses of a node, outages of its link, loss of data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.fleet.fleet import BusFleet
from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.model.metrics import Metrics
from nexus_tw.runtime.turn import Turn

Told = tuple[str, ...]


class Recording:
    """A part that records its calls, and answers a question with its own name and the body."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.calls: list[Told] = []
        self.got: dict[str, list[bytes]] = {}
        self.on_joined: Callable[[str], None] | None = None
        self.holds = False
        self.held: dict[str, Callable[[], None]] = {}
        self.silent = False

    def received(self, node: str, body: bytes) -> None:
        assert node in self.fleet.members, "received from a stranger"
        self.got.setdefault(node, []).append(body)

    def asked(self, node: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        if not self.silent:
            answer(self.fleet.node.encode() + b" " + body)
            answer(b"once more")

    def joined(self, node: str) -> None:
        self.calls.append(("joined", node))
        if self.on_joined is not None:
            self.on_joined(node)

    def left(self, node: str, heir: bool) -> None:
        self.calls.append(("left", node, "heir") if heir else ("left", node))
        if heir and self.holds:
            self.held[node] = self.fleet.hold(node)

    def fenced(self) -> None:
        self.calls.append(("fenced",))

    def renewed(self) -> None:
        self.calls.append(("renewed", self.fleet.node))

    def take(self) -> list[Told]:
        """Return the calls since the last time."""
        calls, self.calls = self.calls, []
        return calls


class NodeClock(Clock):
    """The clock of one node, which stands still while the node is stopped."""


class LooseBus(MemoryBus):
    """A node on the memory bus whose link may be cut, and whose messages may be lost, repeated and delayed."""

    def __init__(self, broker: MemoryBroker, node: str) -> None:
        super().__init__(broker, node)
        self.listener: Any = None
        self.cut = False
        self.fate: Callable[[bytes], list[bytes]] | None = None  # what arrives in the place of a message
        self.paused: list[bytes] | None = None  # what arrives while the node is stopped

    def start(self, listener: Any) -> Any:
        self.listener = listener
        return super().start(listener)

    def message(self, body: bytes) -> None:
        if self.cut:
            return
        for each in [body] if self.fate is None else self.fate(body):
            if self.paused is not None:
                self.paused.append(each)
            else:
                super().message(each)

    def lose(self) -> None:
        """Cut the link, which is noticed at once."""
        self.cut, self.available = True, False
        self.listener.lost()

    def restore(self) -> None:
        self.cut, self.available = False, True
        self.listener.restored()


class Listener:
    """What `IBus.start` wants, for a fleet alone."""

    def __init__(self, fleet: BusFleet) -> None:
        self.message = fleet.message
        self.lost = fleet.lost
        self.restored = fleet.restored

    def event(self, *_: object) -> None:
        raise AssertionError("no events here")


class Node:
    """One node: bus, fleet and a part named `part`."""

    def __init__(self, world: World, name: str) -> None:
        self.metrics = Metrics()
        self.clock = world.clock_of(name)
        self.bus = LooseBus(world.broker, name)
        self.fleet = BusFleet(self.bus, Turn(self.clock).add, self.clock, self.metrics)
        self.part = Recording(self.fleet)
        self.fleet.take_part("part", self.part, self.part.asked)

    def start(self) -> None:
        self.bus.start(Listener(self.fleet))
        self.fleet.start()

    def stop(self) -> None:
        """End in good order."""
        self.fleet.stop()
        self.bus.stop()


class World:
    """Nodes by name. `run` lets time pass for all that are neither stopped nor dead."""

    def __init__(self, *names: str) -> None:
        self.clock = Clock()
        self.broker = MemoryBroker(self.clock)
        self.nodes: dict[str, Node] = {}
        self._clocks: dict[str, NodeClock] = {}
        self.stopped: set[str] = set()
        for name in names:
            self.add(name)
        self.run(1.1)

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def clock_of(self, name: str) -> NodeClock:
        clock = self._clocks[name] = NodeClock()
        clock.rightNow = self.clock.seconds()
        return clock

    def add(self, name: str) -> Node:
        node = self.nodes[name] = Node(self, name)
        node.start()
        return node

    def run(self, seconds: float = 0.0, step: float = 0.05) -> None:
        """Let time pass in small steps; in each, all turns are run that are due."""
        end = self.clock.seconds() + seconds
        while True:
            for _ in range(4):
                self.clock.advance(0)
                for name, clock in self._clocks.items():
                    if name not in self.stopped:
                        clock.advance(max(0.0, self.clock.seconds() - clock.seconds()))
            if self.clock.seconds() >= end:
                return
            self.clock.advance(min(step, end - self.clock.seconds()))

    def stop(self, name: str) -> None:
        """Stop a node's process, as SIGSTOP does: its socket goes on filling."""
        self.stopped.add(name)
        self.nodes[name].bus.paused = []

    def resume(self, name: str, mail_first: bool = False) -> None:
        """Let it go on; with `mail_first` it reads its socket before its timers run."""
        bus = self.nodes[name].bus
        waiting, bus.paused = bus.paused or [], None
        clock = self._clocks[name]
        if mail_first:
            clock.rightNow = self.clock.seconds()
            for body in waiting:
                bus.message(body)
        self.stopped.discard(name)
        clock.advance(max(0.0, self.clock.seconds() - clock.seconds()))
        if not mail_first:
            for body in waiting:
                bus.message(body)

    def kill(self, name: str) -> None:
        """End a node's process at once."""
        node = self.nodes.pop(name)
        self.stopped.add(name)
        self.broker.leave(node.bus)
        node.bus.available = False
