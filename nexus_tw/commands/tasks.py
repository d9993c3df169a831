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

from nexus_tw.commands.book import CommandBook
from nexus_tw.commands.entries import record_of
from nexus_tw.commands.executions import Executions
from nexus_tw.commands.heritage import Heritage
from nexus_tw.commands.outcomes import failed
from nexus_tw.commands.pen import Pen
from nexus_tw.commands.registry import Registry
from nexus_tw.commands.task import CommandRecord, digest_of, targets_of
from nexus_tw.interfaces.executors import Executor
from nexus_tw.interfaces.ledger import Entry, ILedger
from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.realm import CommandReply
from nexus_tw.model import payloads
from nexus_tw.model.commands import CommandRequest
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
        node: Callable[[], str] = str,
    ) -> None:
        """`ledger` returns the ledger to use now, None if there is none; for the rest see `Executions`."""
        self._clock = clock
        self._registry = registry
        self._limits = limits
        self._metrics = metrics
        self._journal = journal
        self._pen = Pen(clock, ledger, node, metrics, self._lost)
        self._book = CommandBook(limits, clock, metrics)
        self._cancels: dict[CommandRecord, list[tuple[Principal, CommandReply]]] = {}  # of commands being taken
        self._executions = Executions(
            clock, announce, presence, spread, registry, self._book, metrics, journal, disclose, self._pen, node
        )
        self._heritage = Heritage(clock, spread, self._pen, self._executions, metrics)

    def resume(self) -> None:
        """Go on with the commands that the process before this one has left in a ledger that no other node shares."""
        self._heritage.take_over(None)

    def stop(self) -> None:
        """Begin nothing any more; what is open is left to whoever comes after."""
        self._heritage.stop()
        self._pen.stop()

    @property
    def open(self) -> int:
        """The number of commands that have not ended."""
        return len(self._book)

    def left(self, peer: Peer) -> None:
        """Remove all callers at a connection that is gone."""
        self._book.left(peer)

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
        executor = None
        if not command.multi_target:
            try:
                executor = self._executions.pick(command, targets[0])
            except NexusError as error:
                if immediate or not request.ttl:
                    if not (request.command_id and self._pen.shared):
                        raise
                    self._refuse_unless_known(asked, command_id, error)
                    return command_id
        self._book.add(command)
        self._book.attach(command, reply, peer)
        if executor is not None:
            self._executions.reserve(command.executions[0], executor)
        self._pen.take(command, partial(self._taken, command, asked, executor))
        return command.id

    def _taken(
        self, command: CommandRecord, asked: _Asked, executor: Executor | None, answer: Entry | NexusError | None
    ) -> None:
        """Go on after the ledger's answer to a new command."""
        cancels = self._cancels.pop(command, ())
        if answer is None:
            command.taken = True
            self._metrics.commands_started += 1
            if not cancels:
                if executor is not None:
                    execution = command.executions[0]
                    self._executions.begin(execution, executor, asked.peer.principal, execution.attempt)
                else:
                    self._executions.start_all(command)
        else:
            waiters = self._book.discard(command)
            if isinstance(answer, NexusError):
                self._note_refusal(asked.peer.principal, command.name, command.id, answer)
                for reply, _ in waiters:
                    reply.error(answer, command.id)
            else:
                for reply, peer in waiters:
                    self._known(answer, asked.of(peer, reply))
        for caller, reply in cancels:
            try:
                self.cancel(caller, command.id, reply)
            except NexusError as error:
                reply.error(error, command.id)

    def _attach(self, command: CommandRecord, asked: _Asked) -> None:
        """Let a caller wait for a command of this book that it has asked for again. Raise what does not fit."""
        if command.owner != asked.peer.principal.identity:
            raise NexusError("forbidden", "This commandId is another caller's")
        command.check_same(asked.request, asked.targets, asked.digest)
        self._book.attach(command, asked.reply, asked.peer)

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
            command = self._book.find(entry.command_id)
            if command is None:
                if not entry.final:
                    raise NexusError("bus_unavailable", "Another node carries this command out")
                command = record_of(entry, self._clock.seconds())
            self._attach(command, asked)
        except NexusError as error:
            self._note_refusal(asked.peer.principal, asked.request.command, entry.command_id, error)
            asked.reply.error(error, entry.command_id)

    def cancel(self, caller: Principal, command_id: str, reply: CommandReply) -> None:
        """End a command: all waiting callers get `cancelled`, and so does `reply`, unless it equals one of them.

        Raise `not_found` if it is unknown or has ended, `forbidden` if it is another caller's.
        """
        command = self._book.find(command_id)
        if command is None:
            raise NexusError("not_found", "No such command")
        if command.owner != caller.identity and not caller.admin:
            raise NexusError("forbidden", "This command is another caller's")
        if command.decided is not None:
            raise NexusError("not_found", f"The command has already ended: it is {command.decided}")
        if not command.taken:
            self._cancels.setdefault(command, []).append((caller, reply))
            return
        error = failed("cancelled", "cancelled")
        told = command.awaited_by(reply)

        def done() -> None:
            if not told:
                reply.error(error, command.id)

        self._executions.cancel(command, error, done)

    def _lost(self, command: CommandRecord) -> None:
        """Forget a command that another node drives."""
        self._executions.drop(command)


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
