"""The ledger in the store, for a node whose bus keeps none: one node, whose commands outlive a restart.

While the store fails, commands go on without it, as they would without a ledger; the log says so. What is open then is lost
with the process, and an id that was used before may be used again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from nexus_tw.commands.audit import Audit
from nexus_tw.interfaces.ledger import Drop, Entry, Find, ILedger, Operation, Recorded, Take, Write, events_of, id_of
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.room import Lack, Room
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.plugin_runner import PluginRunner
from nexus_tw.runtime.spread import Spread
from nexus_tw.runtime.turn import Turn
from nexus_tw.telemetry.outages import Outage

MOST: Final = 1024  # operations in one transaction

_guarded: Final = Guard(__name__, "What follows an entry in the ledger failed")

MISSED: Final = 16384  # commands of which something is kept until the store works again

Done = Callable[[Any], None]


def _nobody(_answer: object) -> None:
    pass


@implementer(ILedger)
class StoredLedger:
    """Sends what is asked in a turn to the store together, and the next once that is answered."""

    epoch = ""
    lasting = True
    tells = False

    def __init__(
        self,
        store: Any,
        guest: PluginRunner,
        realm: str,
        clock: IReactorTime,
        metrics: Metrics,
        room: Room,
        audit: Audit | None = None,
    ) -> None:
        """`store` provides `IKeepsCommands`; `guest` runs its code. `audit` gets what could not be noted, if the store also
        provides `IAudit`."""
        self.notes = audit is not None
        self._audit = audit
        self._store = store
        self._guest = guest
        self._realm = realm
        self._metrics = metrics
        self._room = room
        self._turn = Turn(clock)
        self._spread = Spread(clock)  # what follows the answers: a command may have a thousand targets
        self._stopped = False
        self._waiting: list[tuple[Operation, Done]] = []
        self._under_way = False
        self._missed: OrderedDict[str, Write] = OrderedDict()  # that failed, for the next transaction
        self._outage = Outage("Keeping commands in the store")

    def take(self, entry: Entry, former: str, done: Callable[[Entry | NexusError | None], None]) -> None:
        def answered(answer: Entry | Lack | None) -> None:
            if isinstance(answer, Lack):
                self._metrics.shares_refused["ledger"] += 1
                done(self._room.bounds.refusal(answer))
            else:
                done(answer)

        self._add(Take(entry, former), answered)

    def write(self, write: Write, done: Callable[[bool | NexusError | None], None]) -> None:
        # A command that the store does not have was taken while it failed.
        self._add(write, lambda answer: done(True if answer is None else answer))

    def drop(self, command_id: str, node: str, done: Callable[[NexusError | None], None]) -> None:
        self._add(Drop(command_id, node), done)

    def find(self, command_id: str, done: Callable[[Entry | NexusError | None], None]) -> None:
        self._add(Find(command_id), done)

    def inherit(
        self, left: str | None, node: str, most: int, done: Callable[[list[Entry] | NexusError], None]
    ) -> None:
        def failed(failure: Failure) -> None:
            self._fails(failure)
            done(NexusError("store_unavailable", failure.getErrorMessage()))

        self._guest.run(self._store.inherit, self._realm, left, node, most).addCallbacks(done, failed)

    def stop(self) -> None:
        """Write nothing more: the store is about to be closed, and what is open now goes on after the next start."""
        self._stopped = True
        self._waiting.clear()
        self._spread.finish()

    # ---

    def _add(self, operation: Operation, done: Done) -> None:
        if self._stopped:
            return
        if not self._waiting and not self._under_way:
            self._turn.add(self._send)
        self._waiting.append((operation, done))

    def _send(self) -> None:
        sent, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        self._under_way = True
        sent = [*self._again({id_of(operation) for operation, _ in sent}), *sent]
        operations = [operation for operation, _ in sent]

        def answered(recorded: Recorded) -> None:
            self._outage.works()
            self._metrics.ledger_evicted += recorded.evicted
            finish(recorded.answers)

        def failed(failure: Failure) -> None:
            self._fails(failure)
            self._metrics.ledger_failed += len(sent)
            for operation in operations:
                if isinstance(operation, Write):
                    self._miss(operation._replace(events=()))
                if self._audit is not None:
                    for line in events_of(operation):
                        self._audit.note(id_of(operation), line)
            # As without a ledger: taken, written, unknown.
            finish([isinstance(operation, Write) or None for operation in operations])

        def finish(answers: Sequence[Any]) -> None:
            if not self._stopped:
                self._spread.work(self._tell(sent, answers))

        self._guest.run(self._store.record, self._realm, operations, self._room.bounds).addCallbacks(answered, failed)

    def _tell(self, sent: list[tuple[Operation, Done]], answers: Sequence[Any]) -> Iterator[None]:
        for (_, done), answer in zip(sent, answers, strict=True):
            _guarded(done, answer)
            yield
        self._under_way = False
        if self._waiting:
            self._send()

    def _miss(self, write: Write) -> None:
        """Keep for later what could not be written."""
        before = self._missed.pop(write.command_id, None)
        if before is not None:
            write = write._replace(marks={**before.marks, **write.marks}, final=write.final or before.final)
        elif len(self._missed) >= MISSED:
            self._missed.popitem(last=False)
        self._missed[write.command_id] = write

    def _again(self, apart_from: set[str]) -> list[tuple[Operation, Done]]:
        """Return what could not be written before, except for these commands."""
        due = [write for write in islice(self._missed.values(), MOST) if write.command_id not in apart_from]
        for write in due:
            del self._missed[write.command_id]
        return [(write, _nobody) for write in due]

    def _fails(self, failure: Failure) -> None:
        self._outage.fails(failure.getErrorMessage())
