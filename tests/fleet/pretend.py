"""A fleet inside one process, without a bus: what is told arrives when the test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from nexus_tw.interfaces.fleet import Asked, Part


class Pretended:
    """Nodes that share nothing but `deliver`. Implements no bus: parts are tested without one."""

    def __init__(self) -> None:
        self.nodes: dict[str, PretendedFleet] = {}
        self.frozen: set[str] = set()  # nodes that do not read what they are told
        self._waiting: deque[tuple[str, Callable[[], None]]] = deque()

    def node(self, name: str) -> PretendedFleet:
        """Return a new node, which joins by `join`."""
        return PretendedFleet(self, name)

    def join(self, fleet: PretendedFleet) -> None:
        """Let all nodes and this one know each other."""
        others = list(self.nodes.values())
        self.nodes[fleet.node] = fleet
        for other in others:
            other.sees(fleet.node)
            fleet.sees(other.node)

    def kill(self, name: str, heir: str | None = None) -> None:
        """Remove a node: the others are told that it has left."""
        del self.nodes[name]
        self._waiting = deque((node, act) for node, act in self._waiting if node != name)
        for node, fleet in self.nodes.items():
            fleet.loses(name, node == (heir or next(iter(self.nodes))))

    def put(self, node: str, act: Callable[[], None]) -> None:
        self._waiting.append((node, act))

    def deliver(self) -> None:
        """Deliver everything told so far, and what is told because of it, except to frozen nodes."""
        kept: deque[tuple[str, Callable[[], None]]] = deque()
        while self._waiting:
            node, act = self._waiting.popleft()
            if node in self.frozen:
                kept.append((node, act))
            elif node in self.nodes:
                act()
        self._waiting = kept


class PretendedFleet:
    """One node; implements `nexus_tw.interfaces.fleet.Fleet`."""

    def __init__(self, world: Pretended, name: str) -> None:
        self.node = name
        self.members: dict[str, float] = {}
        self.fenced = False
        self.full: set[str] = set()  # nodes without room
        self.held: list[str] = []  # nodes whose legacy is being taken over, once for each part
        self._world = world
        self._parts: dict[str, Part] = {}
        self._asked: dict[str, Asked] = {}

    def take_part(self, name: str, part: Part, asked: Asked | None = None) -> None:
        self._parts[name] = part
        if asked is not None:
            self._asked[name] = asked

    def tell(self, node: str | None, part: str, body: bytes) -> None:
        for name in list(self.members) if node is None else [node]:
            if name in self.members:
                self._world.put(name, lambda name=name: self._world.nodes[name].hears(self.node, part, body))  # type: ignore[misc]

    def room(self, node: str, size: int) -> bool:
        return node in self.members and node not in self.full

    def silent(self, node: str) -> bool:
        return node not in self.members or node in self._world.frozen

    def ask(
        self, nodes: list[str] | None, part: str, body: bytes, done: Callable[[Mapping[str, bytes]], None]
    ) -> None:
        asked = [self.node, *self.members] if nodes is None else nodes
        answers: dict[str, bytes] = {}
        open_ = {name for name in asked if name in self._world.nodes}

        def answered(name: str, answer: bytes) -> None:
            answers[name] = answer
            open_.discard(name)
            if not open_:
                done(answers)

        if not open_:
            done(answers)
        for name in list(open_):

            def put(name: str = name) -> None:
                def back(answer: bytes) -> None:
                    self._world.put(self.node, lambda: answered(name, answer))

                self._world.nodes[name].questioned(self.node, part, body, back)

            self._world.put(name, put)

    def hold(self, node: str) -> Callable[[], None]:
        self.held.append(node)
        return lambda: self.held.remove(node) if node in self.held else None

    # --- for the world

    def sees(self, node: str) -> None:
        self.members[node] = 0.0
        for part in self._parts.values():
            part.joined(node)

    def renew(self) -> None:
        """What this node has put on the bus is gone, or it has got another name."""
        for part in self._parts.values():
            part.renewed()

    def loses(self, node: str, heir: bool) -> None:
        del self.members[node]
        for part in self._parts.values():
            part.left(node, heir)

    def hears(self, node: str, part: str, body: bytes) -> None:
        if node in self.members:
            self._parts[part].received(node, body)

    def questioned(self, node: str, part: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        self._asked[part](node, body, answer)


def alone(name: str = "alone") -> PretendedFleet:
    """Return a node that has the fleet to itself."""
    world = Pretended()
    fleet = world.node(name)
    world.join(fleet)
    return fleet
