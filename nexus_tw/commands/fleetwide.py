"""What the commands and calls of a realm share with the other nodes of its fleet: creates and connects the parts."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands import claims, directory, remotes
from nexus_tw.commands.claims import Claims
from nexus_tw.commands.directory import Directory, Wake
from nexus_tw.commands.guests import Guests
from nexus_tw.commands.mail import ToDriver, encode
from nexus_tw.commands.registry import Registry
from nexus_tw.commands.relations import Relations
from nexus_tw.commands.remotes import Remotes
from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.metrics import Metrics
from nexus_tw.runtime.spread import Spread


class Fleetwide:
    """Registrations and executors of the whole fleet. An heir takes over commands by `adopt`."""

    def __init__(
        self,
        bus: IBus,
        fleet: Fleet,
        end_of_turn: Callable[[Callable[[], None]], None],
        clock: IReactorTime,
        spread: Spread,
        registry: Registry,
        metrics: Metrics,
        wake: Wake,
    ) -> None:
        """`wake` hands over what waits for patterns that a callee of another node has registered."""
        self._clock = clock
        self._fleet = fleet
        self.remotes = Remotes(fleet, clock, spread, metrics, registry.mistaken)
        self.guests = Guests(clock, spread, registry, metrics, self._answer, self._room, lambda: fleet.fenced)
        self.remotes.connect(self.guests.received)
        self.directory = Directory(fleet, end_of_turn, spread, registry, self.remotes, metrics, wake)
        self.claims = Claims(bus, fleet, clock, registry, metrics)
        self.relations = Relations(fleet, registry, self.remotes, self.guests)
        self.adopt = self.remotes.adopt
        # In this order: what is lost with a node is handed to others, and not to others there.
        fleet.take_part(directory.PART, self.directory, self.directory.asked)
        fleet.take_part(claims.PART, self.claims)
        fleet.take_part(remotes.PART, self.relations, self.relations.asked)

    def stop(self) -> None:
        """Ask the bus for nothing any more."""
        self.claims.stop()

    def _room(self, node: str, size: int) -> bool:
        return node == self._fleet.node or self._fleet.room(node, size)

    def _answer(self, node: str, message: ToDriver) -> None:
        if node == self._fleet.node:
            self._clock.callLater(0, self.remotes.received, node, message)
        else:
            self._fleet.tell(node, remotes.PART, encode(message))
