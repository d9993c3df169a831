"""Heritage: takes over the open commands of a node that is gone, or of the process that was here before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nexus_tw.commands.book import CommandBook
from nexus_tw.commands.entries import record_of
from nexus_tw.commands.executions import Executions
from nexus_tw.commands.pen import Pen
from nexus_tw.commands.task import CommandRecord
from nexus_tw.interfaces.ledger import Entry
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.runtime.spread import Spread

PORTION: Final = 100  # commands taken over at once
AGAIN: Final = 1.0  # s until a take-over that the ledger could not answer is tried again


def _nothing() -> None:
    pass


class Heritage:
    """Takes commands over in portions."""

    def __init__(
        self,
        clock: IReactorTime,
        spread: Spread,
        pen: Pen,
        executions: Executions,
        book: CommandBook,
        metrics: Metrics,
        displaced: Callable[[CommandRecord, Entry], None],
    ) -> None:
        """`displaced` gets a new command, which this node was about to take, for one of the same id that it takes over."""
        self._clock = clock
        self._spread = spread
        self._pen = pen
        self._executions = executions
        self._book = book
        self._metrics = metrics
        self._displaced = displaced
        self._retries: dict[str | None, IDelayedCall] = {}

    def take_over(self, left: str | None, done: Callable[[], None] = _nothing) -> None:
        """Take over all open commands of the node `left`; None: of whoever drove them before, on a ledger of one node. Call
        `done` after that."""

        def answered(answer: list[Entry] | NexusError) -> None:
            if isinstance(answer, NexusError):
                if left not in self._retries:
                    self._retries[left] = self._clock.callLater(AGAIN, again)
                return
            for entry in answer:
                self._metrics.commands_taken_over += 1
                known = self._book.find(entry.command_id)
                if known is None:
                    self.resume(entry)
                elif not known.taken:
                    self._displaced(known, entry)
                # Else it was this node's under an earlier name.
            if answer:
                self._spread.call(self.take_over, left, done)
            else:
                done()

        def again() -> None:
            del self._retries[left]
            self.take_over(left, done)

        self._pen.inherit(left, PORTION, answered)

    def resume(self, entry: Entry) -> None:
        """Go on with a command that is this node's by the ledger, and which the book does not have."""
        command = record_of(entry, self._clock.seconds())
        command.epoch = self._pen.epoch
        self._book.adopt(command)
        self._spread.work(self._executions.resume(command, {place: mark.age for place, mark in entry.marks.items()}))

    def stop(self) -> None:
        """Give up take-overs that have not succeeded."""
        for retry in self._retries.values():
            retry.cancel()
        self._retries.clear()
