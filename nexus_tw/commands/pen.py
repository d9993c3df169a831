"""The pen: writes into the ledger what becomes of the commands that this node drives, in order for each command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nexus_tw.commands.entries import end_of, entry_of, mark_of
from nexus_tw.commands.states import State
from nexus_tw.commands.task import CommandRecord, Execution
from nexus_tw.interfaces.ledger import Entry, ILedger, Write
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.spread import Spread

AGAIN: Final = 0.25  # s until what the ledger could not take is written again

ORPHANS: Final = 16384  # commands whose taking failed, and which may have to be removed

Done = Callable[[], None]
Ending = tuple[State, NexusError | None]  # the final state of a command, and why it has no result

_guarded: Final = Guard(__name__, "What follows an entry in the ledger failed")


def _ignored(_answer: NexusError | None) -> None:
    """What follows fails, too."""


class _Line:
    """What is to be written of one command, and who waits for that."""

    __slots__ = ("done", "events", "final", "former", "places", "under_way")

    def __init__(self) -> None:
        self.places: dict[int, None] = {}
        self.final = b""
        self.events: list[bytes] = []
        self.done: list[Done] = []
        self.former: str | None = None  # the name under which this node drove it, and takes it again
        self.under_way = False


class Pen:
    """Writes. While the ledger is away, it keeps what is to be written, at most once for each command.

    Without a ledger every command is this node's, and nothing is written.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ledger: Callable[[], ILedger | None],
        node: Callable[[], str],
        metrics: Metrics,
        lost: Callable[[CommandRecord], None],
    ) -> None:
        """`node` returns the name under which this node drives now. `lost` gets a command that another node drives."""
        self._clock = clock
        self._ledger = ledger
        self._node = node
        self._metrics = metrics
        self._lost = lost
        self._lines: dict[CommandRecord, _Line] = {}
        self._behind: dict[CommandRecord, None] = {}  # those whose line could not be written
        self._orphans: dict[str, str] = {}  # ids of which it is unknown whether they were taken, and by which name
        self._retry: IDelayedCall | None = None
        self._spread = Spread(clock)

    @property
    def shared(self) -> bool:
        """Whether there is a ledger, which may know commands that this node does not."""
        return self._ledger() is not None

    def take(
        self, command: CommandRecord, done: Callable[[Entry | NexusError | None], None], events: Sequence[bytes] = ()
    ) -> None:
        """Take a new command; see `ILedger.take`. `events` are for a ledger that tells or notes."""
        node = self._node()

        def answered(answer: Entry | NexusError | None) -> None:
            if isinstance(answer, NexusError) and answer.kind.retryable:
                # It may have been taken all the same, and would stay open for ever.
                self._orphan(command.id, node)
            done(answer)

        ledger, orphan = self._ledger(), self._orphans.pop(command.id, None)
        if ledger is not None and orphan is not None:
            ledger.drop(command.id, orphan, _ignored)  # just before it is taken anew, in the same order there
        self._take(command, "", answered, events)

    def find(self, command_id: str, done: Callable[[Entry | NexusError | None], None]) -> None:
        """Look a command up. See `ILedger.find`."""
        ledger = self._ledger()
        if ledger is None:
            done(None)
        else:
            ledger.find(command_id, done)

    def inherit(self, left: str | None, most: int, done: Callable[[list[Entry] | NexusError], None]) -> None:
        """Take open commands of another node over. See `ILedger.inherit`."""
        ledger = self._ledger()
        if ledger is None:
            done([])
        else:
            ledger.inherit(left, self._node(), most, done)

    @property
    def epoch(self) -> str:
        """The epoch of the ledger. What is written of a command, its end above all, must not go to a ledger that has lost what
        was written before."""
        ledger = self._ledger()
        return "" if ledger is None else ledger.epoch

    @property
    def tells(self) -> bool:
        """Whether the ledger publishes the events of what is written."""
        ledger = self._ledger()
        return ledger is not None and ledger.tells

    @property
    def notes(self) -> bool:
        """Whether the ledger adds what is written to the audit trail."""
        ledger = self._ledger()
        return ledger is not None and ledger.notes

    def write(
        self,
        command: CommandRecord,
        executions: Iterable[Execution],
        done: Done,
        end: Ending | None = None,
        events: Iterable[bytes] = (),
    ) -> None:
        """Write how these executions are now, and with `end` how the command ended. Call `done` once that is written; never, if
        another node drives the command. `events` are for a ledger that tells or notes."""
        if self._ledger() is None:
            done()
            return
        line = self._line(command)
        for execution in executions:
            line.places[execution.place] = None
        if end is not None:
            line.final = end_of(*end)
        line.events += events
        line.done.append(done)
        if not line.under_way:
            self._send(command, line)

    def then(self, command: CommandRecord, done: Done) -> None:
        """Call `done` once what is written next of the command is written."""
        if self._ledger() is None:
            done()
        else:
            self._line(command).done.append(done)

    def renew(self, command: CommandRecord, former: str) -> None:
        """Put an open command into the ledger again, which may have lost it; this node was called `former`."""
        if self._ledger() is None:
            return
        line = self._line(command)
        line.former = former
        if not line.under_way:
            line.under_way = True
            self._put_again(command, line)

    def forget(self, command: CommandRecord) -> None:
        """Write nothing more of this command."""
        self._lines.pop(command, None)
        if command in self._behind:
            del self._behind[command]
            self._metrics.ledger_waiting -= 1

    def stop(self) -> None:
        """Give up what the ledger could not take."""
        self._spread.finish()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    # ---

    def _line(self, command: CommandRecord) -> _Line:
        line = self._lines.get(command)
        if line is None:
            line = self._lines[command] = _Line()
        return line

    def _send(self, command: CommandRecord, line: _Line) -> None:
        if command.epoch != self.epoch:
            line.former, line.under_way = line.former or self._node(), True
            self._put_again(command, line)
            return
        places, done, events = line.places, line.done, line.events
        line.places, line.done, line.events, line.under_way = {}, [], [], True

        def restore() -> None:
            line.places, line.done, line.events = places | line.places, done + line.done, events + line.events

        def answered(answer: bool | NexusError | None) -> None:
            if self._lines.get(command) is not line:
                return
            if answer is True:
                command.told += len(events)
                events.clear()
            if line.former is not None and not (answer is True and line.final):
                restore()
                self._put_again(command, line)
            elif answer is True:
                self._written(command, line, done)
            elif answer is False:
                self._refused(command)
            else:
                restore()
                if answer is None:
                    self._put_again(command, line)
                else:
                    self._fell_behind(command)

        ledger = self._ledger()
        if ledger is None:
            answered(True)
            return
        marks = {place: mark_of(command.executions[place]) for place in places}
        ledger.write(Write(command.id, self._node(), marks, line.final, tuple(events), command.told), answered)

    def _written(self, command: CommandRecord, line: _Line, done: list[Done]) -> None:
        line.former = None
        self._spread.work(self._go_on(command, line, done))

    def _go_on(self, command: CommandRecord, line: _Line, done: list[Done]) -> Iterator[None]:
        """Do what waited for a write, in steps: a command may have a thousand targets. Then write what has changed since."""
        for each in done:
            _guarded(each)
            yield
        line.under_way = False
        if self._lines.get(command) is line:
            if line.done or line.places:
                self._send(command, line)
            else:
                del self._lines[command]

    def _refused(self, command: CommandRecord) -> None:
        self.forget(command)
        self._metrics.ledger_refused += 1
        self._lost(command)

    def _put_again(self, command: CommandRecord, line: _Line) -> None:
        """Put a command back into a ledger that has lost it, then write what was to be written."""

        def answered(answer: Entry | NexusError | None) -> None:
            if self._lines.get(command) is not line:
                return
            if answer is None:
                line.former = None
                self._send(command, line)
            elif isinstance(answer, NexusError):
                self._fell_behind(command)
            elif answer.final and answer.final == line.final and answer.node in names:
                # The end was written before, with its events, and only the answer was lost.
                done, line.done, line.events, line.places = line.done, [], [], {}
                self._written(command, line, done)
            else:
                self._refused(command)

        names = self._node(), line.former
        self._take(command, line.former or self._node(), answered)

    def _take(
        self,
        command: CommandRecord,
        former: str,
        done: Callable[[Entry | NexusError | None], None],
        events: Sequence[bytes] = (),
    ) -> None:
        ledger, node, epoch = self._ledger(), self._node(), self.epoch

        def answered(answer: Entry | NexusError | None) -> None:
            if answer is None:
                command.epoch = epoch
                command.told += len(events)
                if self._node() != node:
                    # The others have given this node up meanwhile: a command under its former name is nobody's.
                    self._take(command, node, done)
                    return
            done(answer)

        if ledger is None:
            done(None)
        else:
            ledger.take(entry_of(command, node, self._clock.seconds(), events), former, answered)

    def _fell_behind(self, command: CommandRecord) -> None:
        self._metrics.ledger_waiting += command not in self._behind
        self._behind[command] = None
        self._later()

    def _later(self) -> None:
        if self._retry is None:
            self._retry = self._clock.callLater(AGAIN, self._again)

    def _again(self) -> None:
        self._retry = None
        behind, self._behind = self._behind, {}
        self._metrics.ledger_waiting -= len(behind)
        for command in behind:
            line = self._lines.get(command)
            if line is not None and line.former is not None:
                self._put_again(command, line)
            elif line is not None:
                self._send(command, line)
        orphans, self._orphans = self._orphans, {}
        ledger = self._ledger()
        if ledger is not None:
            for command_id, node in orphans.items():
                self._drop(ledger, command_id, node)

    def _orphan(self, command_id: str, node: str) -> None:
        while len(self._orphans) >= ORPHANS:
            del self._orphans[next(iter(self._orphans))]
        self._orphans[command_id] = node
        self._later()

    def _drop(self, ledger: ILedger, command_id: str, node: str) -> None:
        def answered(answer: NexusError | None) -> None:
            if answer is not None:
                self._orphan(command_id, node)

        ledger.drop(command_id, node, answered)
