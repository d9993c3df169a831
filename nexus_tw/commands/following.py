"""Following: callers here of commands that another node drives, and callers there of commands that this one drives.

A caller that asks for such a command follows it: its driver has a stand-in for it among the command's waiters, which sends here
what it is told. Where the driver is gone, the ledger is asked again until it names another one, or how the command ended.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, Final, Protocol, cast
from weakref import WeakValueDictionary

import msgspec
from msgspec import Struct
from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands.pen import Pen
from nexus_tw.commands.tickets import Attach, Cancel, Detach, Error, Progress, Result, Told, Unknown, decode, encode
from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.interfaces.ledger import Entry
from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.realm import CommandReply
from nexus_tw.model.commands import Outcome, ProgressReport, ResultReport
from nexus_tw.model.errors import ERRORS, NexusError
from nexus_tw.runtime.guard import Guard

PART: Final = "commands"
AGAIN: Final = 0.5  # s until the ledger is asked again who drives a command
TRIES: Final = 60  # times that it is asked before the caller is told to ask later
MISSING: Final = 5  # times that it does not know the command before that is believed

_guarded: Final = Guard(__name__, "A caller could not be told of its command")


class Drives(Protocol):
    """What this node does for callers of commands that it drives. Raises `NexusError` to refuse."""

    def attach(self, command_id: str, reply: CommandReply, peer: Peer) -> bool:
        """Let a caller wait for a command that this node has. Return whether it has it."""

    def cancel(self, command_id: str, identity: str, admin: bool, reply: CommandReply) -> bool:
        """Cancel a command that this node has. Return whether it has it."""

    def left(self, peer: Peer) -> None:
        """Remove all callers at a session that is gone."""


class _Elsewhere:
    """Stands for the session of another node among the peers of waiting callers."""

    __slots__ = ("__weakref__", "node", "session")

    def __init__(self, node: str, session: int) -> None:
        self.node = node
        self.session = session


class _StandIn:
    """Stands for a caller of another node; implements `CommandReply`."""

    __slots__ = ("_fleet", "_node", "_ticket")

    def __init__(self, fleet: Fleet, node: str, ticket: int) -> None:
        self._fleet = fleet
        self._node = node
        self._ticket = ticket

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _StandIn) and (other._node, other._ticket) == (self._node, self._ticket)

    def __hash__(self) -> int:
        return hash((self._node, self._ticket))

    def affords(self, size: int) -> bool:
        return self._fleet.room(self._node, size)

    def progress(self, progress: ProgressReport) -> None:
        body = encode(Progress(self._ticket, progress))
        if self._fleet.room(self._node, len(body)):
            self._fleet.tell(self._node, PART, body)

    def result(self, result: ResultReport) -> None:
        outcome = result.outcome
        if isinstance(outcome, Outcome):
            self._tell(Result(self._ticket, result.command_id, result.command, Told.of(outcome)))
        else:
            self._tell(Result(self._ticket, result.command_id, result.command, None, [Told.of(each) for each in outcome]))

    def error(self, error: NexusError, _command_id: str) -> None:
        self._tell(Error(self._ticket, error.code, error.message))

    def unknown(self) -> None:
        """Tell the caller's node that this one drives the command no longer."""
        self._tell(Unknown(self._ticket))

    def _tell(self, message: Struct) -> None:
        self._fleet.tell(self._node, PART, encode(message))


class _Follower:
    """A caller here, and what it waits for; with `cancels` (identity, admin) it wants the command cancelled."""

    __slots__ = ("asking", "cancels", "command_id", "missed", "node", "peer", "reply", "silent", "told", "tries")

    def __init__(self, command_id: str, reply: CommandReply, peer: Peer | None, cancels: tuple[str, bool] | None) -> None:
        self.command_id = command_id
        self.reply = reply
        self.peer = peer
        self.cancels = cancels
        self.node = ""  # that was asked
        self.asking = False  # the ledger
        self.tries = 0
        self.missed = 0  # times in a row that the ledger did not know the command
        self.silent = False  # an equal caller waits for the command, and is told that it is cancelled
        self.told: set[str] = set()  # targets whose outcome it has got


class Following:
    """The `commands` part of the fleet, as far as callers are concerned."""

    def __init__(
        self,
        clock: IReactorTime,
        pen: Pen,
        fleet: Fleet | None,
        drives: Drives,
        settle: Callable[[Entry, CommandReply, tuple[str, bool] | None], None],
    ) -> None:
        """`settle` answers a caller whose command has ended."""
        self._clock = clock
        self._pen = pen
        self._fleet = fleet
        self._drives = drives
        self._settle = settle
        self._tickets = count(1)
        self._followers: dict[int, _Follower] = {}
        self._peers: dict[Peer, set[int]] = {}
        self._elsewhere: WeakValueDictionary[tuple[str, int], _Elsewhere] = WeakValueDictionary()

    def __len__(self) -> int:
        """Return how many callers here wait for other nodes."""
        return len(self._followers)

    def follow(self, command_id: str, reply: CommandReply, peer: Peer, entry: Entry | None = None) -> None:
        """Let a caller wait for a command that another node drives, by this entry of the ledger or what it says now."""
        for ticket in self._peers.get(peer, ()):
            known = self._followers[ticket]
            if known.command_id == command_id and known.reply == reply:
                return
        self._begin(_Follower(command_id, reply, peer, None), entry)

    def moved(self, command_id: str, reply: CommandReply, peer: Peer) -> None:
        """Let a caller that has waited here wait for the node that drives the command now; one of another node is told so."""
        if isinstance(reply, _StandIn):
            reply.unknown()
        else:
            self.follow(command_id, reply, peer)

    def cancel(self, entry: Entry, reply: CommandReply, identity: str, admin: bool) -> None:
        """Have the driver cancel a command for this caller."""
        follower = _Follower(entry.command_id, reply, None, (identity, admin))
        follower.silent = any(
            known.command_id == entry.command_id and known.reply == reply for known in self._followers.values()
        )
        self._begin(follower, entry)

    def left(self, peer: Peer) -> None:
        """Remove all callers at a connection that is gone."""
        tickets = self._peers.pop(peer, ())
        for node in {self._followers.pop(ticket).node for ticket in tickets}:
            self._tell(node, Detach(peer.number))

    # --- from the fleet

    def received(self, node: str, body: bytes) -> None:
        """Receive what another node says."""
        try:
            message = decode(body)
        except msgspec.DecodeError:
            return
        if isinstance(message, Attach | Cancel):
            self._asked(node, message)
        elif isinstance(message, Detach):
            there = self._elsewhere.pop((node, message.session), None)
            if there is not None:
                self._drives.left(cast("Peer", there))
        else:
            follower = self._followers.get(message.ticket)
            if follower is not None and follower.node == node:
                self._answered(message, follower)

    def node_left(self, node: str) -> None:
        """Forget the callers of a node that is gone, and ask the ledger about the commands that it drove."""
        for key in [key for key in list(self._elsewhere) if key[0] == node]:
            there = self._elsewhere.pop(key, None)
            if there is not None:
                self._drives.left(cast("Peer", there))
        for ticket, follower in list(self._followers.items()):
            if follower.node == node:
                follower.node = ""
                self._find(ticket, follower)

    # ---

    def _begin(self, follower: _Follower, entry: Entry | None) -> None:
        ticket = next(self._tickets)
        if follower.peer is not None:
            self._peers.setdefault(follower.peer, set()).add(ticket)
        self._followers[ticket] = follower
        if entry is None:
            self._find(ticket, follower)
        else:
            self._found(ticket, follower, entry)

    def _find(self, ticket: int, follower: _Follower) -> None:
        def answered(answer: Entry | NexusError | None) -> None:
            follower.asking = False
            if self._followers.get(ticket) is not follower:
                return
            if isinstance(answer, NexusError):
                self._later(ticket, follower)
            elif answer is None:
                self._missing(ticket, follower)
            else:
                follower.missed = 0
                self._found(ticket, follower, answer)

        if not follower.asking:
            follower.asking = True
            self._pen.find(follower.command_id, answered)

    def _missing(self, ticket: int, follower: _Follower) -> None:
        """The ledger does not have the command: it was dropped since it could not be taken, and nobody executes it; or the
        ledger has lost its data, and the driver is about to put the command there again."""
        follower.missed += 1
        if follower.missed < MISSING:
            self._later(ticket, follower)
            return
        self._end(ticket)
        if follower.cancels is not None:
            error = NexusError("not_found", "No such command")
        else:
            error = NexusError("bus_unavailable", "This command was not taken, or it was lost: give it again")
        follower.reply.error(error, follower.command_id)

    def _found(self, ticket: int, follower: _Follower, entry: Entry) -> None:
        """Go on with what the ledger says of the command."""
        if entry.final:
            self._end(ticket)
            _guarded(self._settle, entry, _Missing(follower.reply, follower.told), follower.cancels)
        elif self._fleet is not None and entry.node == self._fleet.node:
            self._at_home(ticket, follower)
        elif self._fleet is not None and entry.node in self._fleet.members:
            follower.node = entry.node
            if follower.cancels is not None:
                self._tell(entry.node, Cancel(ticket, follower.command_id, *follower.cancels))
            elif follower.peer is not None:
                self._tell(entry.node, Attach(ticket, follower.command_id, follower.peer.number))
        else:
            self._later(ticket, follower)

    def _at_home(self, ticket: int, follower: _Follower) -> None:
        """This node drives the command, or is about to."""
        reply = _Missing(follower.reply, follower.told) if follower.told else follower.reply
        try:
            if follower.cancels is not None:
                there = self._drives.cancel(follower.command_id, *follower.cancels, reply)
            else:
                assert follower.peer is not None
                there = self._drives.attach(follower.command_id, reply, follower.peer)
        except NexusError as error:
            self._end(ticket)
            follower.reply.error(error, follower.command_id)
            return
        if there:
            self._end(ticket)
        else:
            self._later(ticket, follower)

    def _later(self, ticket: int, follower: _Follower) -> None:
        """Ask the ledger again in a moment: nobody drives the command now."""
        follower.tries += 1
        if follower.tries > TRIES:
            self._end(ticket)
            error = NexusError("bus_unavailable", "It is not known now who carries this command out: ask again later")
            follower.reply.error(error, follower.command_id)
            return

        def again() -> None:
            if self._followers.get(ticket) is follower and not follower.node:
                self._find(ticket, follower)

        follower.node = ""
        self._clock.callLater(AGAIN, again)

    def _end(self, ticket: int) -> None:
        follower = self._followers.pop(ticket)
        if follower.peer is not None:
            tickets = self._peers[follower.peer]
            tickets.discard(ticket)
            if not tickets:
                del self._peers[follower.peer]

    def _answered(self, message: Progress | Result | Error | Unknown, follower: _Follower) -> None:
        reply, ticket = follower.reply, message.ticket
        if isinstance(message, Progress):
            _guarded(reply.progress, message.report)
        elif isinstance(message, Unknown):
            self._later(ticket, follower)
        elif isinstance(message, Error):
            self._end(ticket)
            code = message.code if message.code in ERRORS else "failed"
            if follower.silent and code == "cancelled":
                return
            _guarded(reply.error, NexusError(code, message.message), follower.command_id)
        else:
            one = message.one
            if one is not None and one.agent_id is not None:
                if one.agent_id in follower.told:
                    return
                follower.told.add(one.agent_id)
            else:
                self._end(ticket)
            outcome = [each.outcome for each in message.all] if one is None else one.outcome
            _guarded(reply.result, ResultReport(message.command_id, message.command, outcome))

    def _asked(self, node: str, message: Attach | Cancel) -> None:
        """Serve a caller of another node."""
        assert self._fleet is not None
        reply = _StandIn(self._fleet, node, message.ticket)
        try:
            if isinstance(message, Cancel):
                there = self._drives.cancel(message.command_id, message.identity, message.admin, reply)
            else:
                key = node, message.session
                peer = self._elsewhere.get(key)
                if peer is None:
                    peer = self._elsewhere[key] = _Elsewhere(*key)
                there = self._drives.attach(message.command_id, reply, cast("Peer", peer))
        except NexusError as error:
            reply.error(error, message.command_id)
            return
        if not there:
            self._tell(node, Unknown(message.ticket))

    def _tell(self, node: str, message: Struct) -> None:
        if self._fleet is not None and node:
            self._fleet.tell(node, PART, encode(message))


class _Missing:
    """A caller that has got the outcomes of these targets already; implements `CommandReply`."""

    __slots__ = ("_reply", "_told")

    def __init__(self, reply: CommandReply, told: set[str]) -> None:
        self._reply = reply
        self._told = told

    def __eq__(self, other: object) -> bool:
        return (other._reply if isinstance(other, _Missing) else other) == self._reply

    def __hash__(self) -> int:
        return hash(self._reply)

    def affords(self, size: int) -> bool:
        return self._reply.affords(size)

    def progress(self, progress: ProgressReport) -> None:
        self._reply.progress(progress)

    def result(self, result: ResultReport) -> None:
        outcome: Any = result.outcome
        if not (isinstance(outcome, Outcome) and outcome.agent_id in self._told):
            self._reply.result(result)

    def error(self, error: NexusError, command_id: str) -> None:
        self._reply.error(error, command_id)
