"""The ledger: the written record of commands, by which each is carried out once, whatever becomes of the node that drives it.

The node that has taken a command *drives* it: it alone writes what becomes of the command's executions and how it ends. Every
write names its driver, and is refused once the ledger has given the command to another one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from nexus_tw.model.errors import NexusError
    from nexus_tw.model.room import Bounds, Lack


class Mark(NamedTuple):
    """The state of one execution as its driver wrote it, and for how long (s) it has been that."""

    body: bytes
    age: float = 0.0


class Entry(NamedTuple):
    """A command in the ledger. `head`, the marks' bodies and `final` are JSON, and mean something to drivers only."""

    command_id: str
    node: str  # the driver
    head: bytes  # what never changes
    marks: Mapping[int, Mark]  # by the place of the execution; none for one that nothing has happened to
    final: bytes = b""  # how it ended; empty while it is open
    age: float = 0.0  # s since it was taken
    account: str = ""  # under which it counts
    told: int = 0  # how many of its events a ledger that tells has published
    events: Sequence[bytes] = ()  # of one that is taken: those of its marks, see `Write`


class Write(NamedTuple):
    """What a driver adds to an open command: marks, and with `final` its end. `events` are of all that, for a ledger that tells
    `task.updated`, for one that notes lines of the audit trail. They follow the `told` ones that the driver knows of."""

    command_id: str
    node: str
    marks: Mapping[int, bytes]
    final: bytes = b""
    events: Sequence[bytes] = ()
    told: int = 0


class ILedger(Interface):
    """Keeps commands: open ones, and ended ones for a day within its bounds (`nexus_tw.model.room`), beyond which the oldest
    ended ones go, beyond an account's share its own.

    Every `done` is called once, perhaps before the method returns; with a retryable `NexusError` if the ledger cannot be
    reached or read: then nothing is known of what became of the request, which may be made again.
    """

    epoch: str = Attribute("Another one once it may have lost what was written; then drivers put open commands there again.")
    lasting: bool = Attribute("Whether it survives the end of this process.")
    tells: bool = Attribute(
        "Whether it publishes the events of what it takes and writes, in the same step, once and in order; else its user does."
    )
    notes: bool = Attribute("Whether it adds what it takes and writes to the audit trail, in one step; else its user does.")

    def take(entry: Entry, former: str, done: Callable[[Entry | NexusError | None], None]) -> None:
        """Write an open command: a new one, or with `former` one that this node drove before under that name, in place of what
        `entry.node` or `former` drives under its id. Pass None to `done`; or, with nothing changed, the command that has that
        id otherwise; `limit_exceeded` if there is no room for one more; or `bus_unavailable` if the others have given
        `entry.node` up."""

    def write(write: Write, done: Callable[[bool | NexusError | None], None]) -> None:
        """Pass to `done` True once it is written, also if it was before; False if another node drives the command; None if
        there is no such command."""

    def drop(command_id: str, node: str, done: Callable[[NexusError | None], None]) -> None:
        """Remove an open command that the node drives; do nothing if there is none."""

    def find(command_id: str, done: Callable[[Entry | NexusError | None], None]) -> None:
        """Pass to `done` the command of that id, or None."""

    def inherit(left: str | None, node: str, most: int, done: Callable[[list[Entry] | NexusError], None]) -> None:
        """Give at least one and at most `most` open commands of the node `left` (None: of any other) to `node`. Pass them to
        `done`; an empty list if there are none."""


class Take(NamedTuple):
    """See `ILedger.take`."""

    entry: Entry
    former: str


class Drop(NamedTuple):
    """See `ILedger.drop`."""

    command_id: str
    node: str


class Find(NamedTuple):
    """See `ILedger.find`."""

    command_id: str


Operation = Take | Write | Drop | Find


def id_of(operation: Operation) -> str:
    """Return the id of the command that an operation is about."""
    return operation.entry.command_id if isinstance(operation, Take) else operation.command_id


def events_of(operation: Operation) -> Sequence[bytes]:
    """Return the events of what an operation takes or writes."""
    if isinstance(operation, Take):
        return operation.entry.events
    return operation.events if isinstance(operation, Write) else ()


class Recorded(NamedTuple):
    """What a store tells of operations that it has carried out."""

    answers: Sequence[Entry | bool | Lack | None]  # to each the one that `ILedger` prescribes
    evicted: int  # ended commands that had to go before a day was over


class IKeepsCommands(Interface):
    """Optional for stores: keeps the ledger of a single node, for a bus that does not. Fails as `IStore` does.

    What has been answered survives the end of the process, but not necessarily a power failure.
    """

    def record(realm: str, operations: Sequence[Operation], bounds: Bounds) -> Awaitable[Recorded]:
        """Carry out operations on different commands together. If the store provides `IAudit`, the events of what it takes and
        writes are lines of the audit trail, to be added in the same transaction."""

    def inherit(realm: str, left: str | None, node: str, most: int) -> Awaitable[list[Entry]]:
        """See `ILedger.inherit`."""


class AuditLine(NamedTuple):
    """A line of the audit trail: what became of a command at a time (ms since the epoch), as a JSON object."""

    realm: str
    command_id: str
    at: int
    line: bytes


class IAudit(Interface):
    """Optional for stores: keeps the audit trail of commands. Fails as `IStore` does; `prune` also removes its lines from
    before its time."""

    def note(lines: Sequence[AuditLine]) -> Awaitable[None]:
        """Add lines, all or none. They survive the end of the process."""

    def trail(realm: str, command_id: str, most: int) -> Awaitable[list[AuditLine]]:
        """Return the first `most` lines about a command, in the order in which they were added."""
