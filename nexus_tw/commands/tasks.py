"""Commands: the caller's half of the JSON protocol's commands, from the request to the final answer.

The record of a command (`task`) has its waiting callers, executions and outcome; `book` keeps it. An execution is handed to an
executor (`nexus_tw.interfaces.executors`) once for each attempt; each has `timeout` seconds. Plain calls, which have no record,
have another caller's half (`calls`) and the same executors.

An execution leaves its attempt before the attempt is stopped: later answers of the attempt are ignored, and it ends only once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple
from uuid import uuid4

from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands.audit import Audit
from nexus_tw.commands.book import CommandBook
from nexus_tw.commands.entries import record_of, state_of
from nexus_tw.commands.executions import Executions
from nexus_tw.commands.following import PART, Following
from nexus_tw.commands.heritage import Heritage
from nexus_tw.commands.outcomes import failed
from nexus_tw.commands.part import CommandsPart
from nexus_tw.commands.pen import Pen
from nexus_tw.commands.picking import Picker
from nexus_tw.commands.registry import Registry
from nexus_tw.commands.remotes import Remotes
from nexus_tw.commands.task import CommandRecord, digest_of, targets_of
from nexus_tw.commands.updates import Updates
from nexus_tw.interfaces.executors import Executor
from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.interfaces.ledger import Entry, ILedger
from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.realm import CommandReply
from nexus_tw.model import payloads
from nexus_tw.model.commands import CommandRequest, CommandState
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern, check_name, is_name
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Limits
from nexus_tw.presence.agents import Announce, Presence
from nexus_tw.runtime.client_log import ClientLog
from nexus_tw.runtime.spread import Spread


def _none() -> None:
    """There is no ledger."""


class Commands:
    """Accepts and cancels commands. `Executions` has the rest of their life."""

    def __init__(
        self,
        clock: IReactorTime,
        announce: Announce,
        presence: Presence,
        spread: Spread,
        registry: Registry,
        limits: Limits,
        metrics: Metrics,
        journal: ClientLog,
        disclose: bool = False,
        ledger: Callable[[], ILedger | None] = _none,
        fleet: Fleet | None = None,
    ) -> None:
        """`ledger` returns the ledger to use now, None if there is none; for the rest see `Executions`."""
        self._clock = clock
        self._registry = registry
        self._limits = limits
        self._metrics = metrics
        self._journal = journal
        self._fleet = fleet
        self._pen = Pen(clock, ledger, self._node, metrics, self._lost)
        self._book = CommandBook(limits, clock, metrics)
        self._cancels: dict[CommandRecord, list[tuple[str, bool, CommandReply]]] = {}  # of commands being taken
        self._picker = Picker(registry, presence)
        self._updates = Updates(clock, announce, self._pen)
        executions = self._executions = Executions(
            *(clock, spread, self._picker, self._updates, self._book, metrics, journal, disclose, self._pen),
            self._node,
            self._alive,
        )
        self._displaced: dict[CommandRecord, tuple[Entry, list[tuple[CommandReply, Peer]]]] = {}
        self._heritage = Heritage(clock, spread, self._pen, executions, self._book, metrics, self._displace)
        self._following = Following(clock, self._pen, fleet, _Drives(self), self._settle)
        if fleet is not None:
            part = CommandsPart(clock, fleet, spread, self._book, executions, self._pen, self._heritage, self._following)
            fleet.take_part(PART, part)

    def _node(self) -> str:
        return "" if self._fleet is None else self._fleet.node

    def _alive(self, node: str) -> bool:
        return self._fleet is not None and (node == self._fleet.node or node in self._fleet.members)

    @property
    def open(self) -> int:
        """The number of commands that this node drives."""
        return len(self._book)

    @property
    def followed(self) -> int:
        """The number of callers here that wait for other nodes."""
        return len(self._following)

    def adopts(self, adopting: Remotes) -> None:
        """Take over what is executed on other nodes by this."""
        self._executions.adopting = adopting

    def noted(self, audit: Audit) -> None:
        """Have each state noted in this trail."""
        self._updates.audit = audit

    def resume(self) -> None:
        """Go on with the commands that the process before this one has left in a ledger that no other node shares."""
        self._heritage.take_over(None)

    def stop(self) -> None:
        """Begin nothing any more; what is open is left to whoever comes after."""
        self._heritage.stop()
        self._updates.stop()
        self._pen.stop()

    def left(self, peer: Peer) -> None:
        """Remove all callers at a connection that is gone."""
        self._book.left(peer)
        self._following.left(peer)

    def wake(self, patterns: Sequence[Pattern], agent: str) -> None:
        """Hand over the commands that wait for these patterns, which the agent has registered, in the next reactor turn."""
        self._executions.wake(patterns, agent)

    def call(self, peer: Peer, request: CommandRequest, reply: CommandReply) -> str:
        """Accept a command and return its id; `reply` gets the further answers, perhaps before this returns.

        An id that the same caller has used before means the same command: it is not executed again, and `reply` gets its
        outcome. With another command, other parameters or other targets the id is `invalid_message`.

        Raise `invalid_message`, `forbidden` or `limit_exceeded`; without `ttl` also `no_such_command` or `agent_offline` if
        there is no executor. A refused command is not kept: its id can be used again. With a list of targets, the last two are
        outcomes of the targets concerned. What only the ledger can decide is told to `reply`: also `bus_unavailable` or
        `store_unavailable` if it cannot be reached.
        """
        try:
            return self._called(peer, request, reply)
        except NexusError as error:
            self._note_refusal(peer.principal, request.command, request.command_id, error)
            raise

    def _note_refusal(self, who: Principal, name: str, command_id: str | None, error: NexusError) -> None:
        if is_name(name):
            self._journal.called(who.account, who.subject, name, f"refused: {error.code}", command_id)

    def _called(self, peer: Peer, request: CommandRequest, reply: CommandReply) -> str:
        caller = peer.principal
        name = check_name(request.command, "command")
        caller.require("call", name)
        targets = targets_of(request.target)
        parameters = payloads.decode(request.parameters, "parameters", self._limits.depth)
        digest = digest_of(parameters)
        if request.command_id:
            known = self._book.find(request.command_id)
            if known is not None:
                self._attach(known, _Asked(peer, request, targets, digest, reply))
                return known.id
        command_id = request.command_id or str(uuid4())
        command = CommandRecord(command_id, caller, peer.number, request, targets, digest, self._clock.seconds())
        asked = _Asked(peer, request, targets, digest, reply)
        own = self._registry.own(name)
        immediate = own is not None and own.interruptible
        if immediate and request.target is not None:
            raise failed("no_such_command", f"{name} is executed by the server itself, not by agents")
        if immediate and command.retries:
            command.keep_rights(caller)
        executor = None
        if not command.multi_target:
            try:
                executor = self._picker.require(command, targets[0])
            except NexusError as error:
                if immediate or not request.ttl:
                    if not (request.command_id and self._pen.shared):
                        raise
                    self._refuse_unless_known(asked, command_id, error)
                    return command_id
        self._book.add(command)
        self._book.attach(command, reply, peer)
        events: Sequence[bytes] = ()
        if executor is not None:
            events = self._executions.reserve(command.executions[0], executor)
        self._pen.take(command, partial(self._taken, command, asked, executor), events)
        return command.id

    def _taken(
        self, command: CommandRecord, asked: _Asked, executor: Executor | None, answer: Entry | NexusError | None
    ) -> None:
        """Go on after the ledger's answer to a new command."""
        cancels = self._cancels.pop(command, ())
        inherited = self._displaced.pop(command, None)
        if answer is None and inherited is None:
            command.taken = True
            self._metrics.commands_started += 1
            if not cancels:
                if executor is not None:
                    execution = command.executions[0]
                    self._executions.begin(execution, executor, asked.peer.principal, execution.attempt)
                else:
                    self._executions.start_all(command)
        else:
            entry, waiters = inherited or (answer, self._book.discard(command))
            if isinstance(answer, NexusError):
                self._note_refusal(asked.peer.principal, command.name, command.id, answer)
                for reply, _ in waiters:
                    reply.error(answer, command.id)
            else:
                assert isinstance(entry, Entry)
                if inherited is None and entry.node == self._node() and not entry.final:
                    self._heritage.resume(entry)  # it was taken before, and the answer was lost
                for reply, peer in waiters:
                    self._known(entry, asked.of(peer, reply))
        for identity, admin, reply in cancels:
            self._cancel_later(command.id, identity, admin, reply)

    def _displace(self, command: CommandRecord, entry: Entry) -> None:
        """A new command has the id of one that this node has just inherited: its callers will wait for that."""
        self._displaced[command] = entry, self._book.discard(command)
        self._heritage.resume(entry)

    def _attach(self, command: CommandRecord, asked: _Asked) -> None:
        """Let a caller wait for a command that it has asked for again, or answer it. Raise what does not fit."""
        self._check(command, asked)
        self._book.attach(command, asked.reply, asked.peer)

    @staticmethod
    def _check(command: CommandRecord, asked: _Asked) -> None:
        """Raise `NexusError` if the request with this command's id is not for the same command, by the same caller."""
        if command.owner != asked.peer.principal.identity:
            raise NexusError("forbidden", "This commandId is another caller's")
        command.check_same(asked.request, asked.targets, asked.digest)

    def _refuse_unless_known(self, asked: _Asked, command_id: str, refusal: NexusError) -> None:
        """Refuse a new command; one that the ledger knows is answered."""

        def found(answer: Entry | NexusError | None) -> None:
            if answer is None or isinstance(answer, NexusError):
                error = refusal if answer is None else answer
                self._note_refusal(asked.peer.principal, asked.request.command, command_id, error)
                asked.reply.error(error, command_id)
            else:
                self._known(answer, asked)

        self._pen.find(command_id, found)

    def _known(self, entry: Entry, asked: _Asked) -> None:
        """Answer a caller whose commandId the ledger knows."""
        try:
            command = self._book.find(entry.command_id) or record_of(entry, self._clock.seconds())
            if command.state is None and not self._book.has(command):
                self._check(command, asked)
                self._following.follow(command.id, asked.reply, asked.peer, entry)
            else:
                self._attach(command, asked)
        except NexusError as error:
            self._note_refusal(asked.peer.principal, asked.request.command, entry.command_id, error)
            asked.reply.error(error, entry.command_id)

    def cancel(self, caller: Principal, command_id: str, reply: CommandReply) -> None:
        """End a command: all waiting callers get `cancelled`, and so does `reply`, unless it equals one of them.

        Raise `not_found` if it is unknown or has ended, `forbidden` if it is another caller's. Where the ledger must be asked,
        `reply` is told so.
        """
        if self._cancel(command_id, caller.identity, caller.admin, reply):
            return
        if not self._pen.shared:
            raise NexusError("not_found", "No such command")
        self._cancel_elsewhere(command_id, caller.identity, caller.admin, reply)

    def state(self, caller: Principal, command_id: str, done: Callable[[CommandState | NexusError], None]) -> None:
        """Pass to `done` what the ledger knows of a command of the caller's, or for an administrator of any."""

        def found(answer: Entry | NexusError | None) -> None:
            if answer is None:
                done(NexusError("not_found", "No such command"))
            elif isinstance(answer, NexusError):
                done(answer)
            elif record_of(answer, 0.0).owner != caller.identity and not caller.admin:
                done(NexusError("forbidden", "This command is another caller's"))
            else:
                done(state_of(answer))

        self._pen.find(command_id, found)

    def _cancel_elsewhere(self, command_id: str, identity: str, admin: bool, reply: CommandReply) -> None:
        """Have the driver of a command cancel it, by what the ledger says."""

        def found(answer: Entry | NexusError | None) -> None:
            if answer is None or isinstance(answer, NexusError):
                reply.error(answer or NexusError("not_found", "No such command"), command_id)
                return
            try:
                _check_cancel(record_of(answer, self._clock.seconds()), identity, admin)
            except NexusError as error:
                reply.error(error, command_id)
            else:
                self._following.cancel(answer, reply, identity, admin)

        self._pen.find(command_id, found)

    def _cancel_later(self, command_id: str, identity: str, admin: bool, reply: CommandReply) -> None:
        """Cancel a command that was being taken when its caller asked for that."""
        try:
            there = self._cancel(command_id, identity, admin, reply)
        except NexusError as error:
            reply.error(error, command_id)
        else:
            if not there:
                self._cancel_elsewhere(command_id, identity, admin, reply)

    def _cancel(self, command_id: str, identity: str, admin: bool, reply: CommandReply) -> bool:
        """Cancel a command of this node. Return whether it is one; raise as `cancel` does."""
        command = self._book.find(command_id)
        if command is None:
            return False
        _check_cancel(command, identity, admin)
        if not command.taken:
            self._cancels.setdefault(command, []).append((identity, admin, reply))
            return True
        error = failed("cancelled", "cancelled")
        told = command.awaited_by(reply)

        def done() -> None:
            if not told:
                reply.error(error, command.id)

        self._executions.cancel(command, error, done)
        return True

    def _settle(self, entry: Entry, reply: CommandReply, cancels: tuple[str, bool] | None) -> None:
        """Answer a caller that has followed a command, or wanted it cancelled, which has ended."""
        command = record_of(entry, self._clock.seconds())
        try:
            if cancels is not None:
                _check_cancel(command, *cancels)
            command.replay(reply)
        except NexusError as error:
            reply.error(error, command.id)

    def _lost(self, command: CommandRecord) -> None:
        """Leave a command to the node that drives it; its callers here follow it."""
        for reply, peer in self._executions.drop(command):
            self._following.moved(command.id, reply, peer)


def _check_cancel(command: CommandRecord, identity: str, admin: bool) -> None:
    if command.owner != identity and not admin:
        raise NexusError("forbidden", "This command is another caller's")
    if command.decided is not None:
        raise NexusError("not_found", f"The command has already ended: it is {command.decided}")


class _Drives:
    """Implements `nexus_tw.commands.following.Drives`."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def attach(self, command_id: str, reply: CommandReply, peer: Peer) -> bool:
        book = self._commands._book
        command = book.find(command_id)
        if command is None:
            return False
        book.attach(command, reply, peer)
        return True

    def cancel(self, command_id: str, identity: str, admin: bool, reply: CommandReply) -> bool:
        return self._commands._cancel(command_id, identity, admin, reply)

    def left(self, peer: Peer) -> None:
        self._commands._book.left(peer)


class _Asked(NamedTuple):
    """A caller's request, checked and taken apart."""

    peer: Peer
    request: CommandRequest
    targets: list[str | None]
    digest: bytes
    reply: CommandReply

    def of(self, peer: Peer, reply: CommandReply) -> _Asked:
        """Return the same request by another caller."""
        return self._replace(peer=peer, reply=reply)
