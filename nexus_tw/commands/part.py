"""Commands as a part of the fleet: what follows for them when nodes leave, and when this one was out of touch."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands.book import CommandBook
from nexus_tw.commands.executions import Executions
from nexus_tw.commands.following import Following
from nexus_tw.commands.heritage import Heritage
from nexus_tw.commands.pen import Pen
from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.runtime.spread import Spread


class CommandsPart:
    """Implements `nexus_tw.interfaces.fleet.Part`."""

    def __init__(
        self,
        clock: IReactorTime,
        fleet: Fleet,
        spread: Spread,
        book: CommandBook,
        executions: Executions,
        pen: Pen,
        heritage: Heritage,
        following: Following,
    ) -> None:
        self.received = following.received
        self._clock = clock
        self._fleet = fleet
        self._name = fleet.node
        self._spread = spread
        self._book = book
        self._executions = executions
        self._pen = pen
        self._heritage = heritage
        self._following = following

    def joined(self, node: str) -> None:
        """Do nothing: the ledger says who drives what."""

    def left(self, node: str, heir: bool) -> None:
        # In the next turn: then the registry has forgotten the callees of that node, too.
        if heir:
            self._clock.callLater(0, self._heritage.take_over, node, self._fleet.hold(node))
        self._clock.callLater(0, self._following.node_left, node)

    def fenced(self) -> None:
        self._spread.work(self._fence())

    def renewed(self) -> None:
        former, self._name = self._name, self._fleet.node
        # At once, not in steps: nothing may be written under the new name before the ledger knows it.
        for command in self._book.live():
            if command.taken:
                self._executions.renamed(command, former)
                self._pen.renew(command, former)

    def _fence(self) -> Iterator[None]:
        for command in self._book.live():
            if command.retries and command.decided is None:
                self._executions.fence(command)
                yield
