"""Commands: the caller's half of the JSON protocol's commands, from the request to the final answer.

The record of a command (`task`) has its waiting callers, executions and outcome; `book` keeps it. An execution is handed to an
executor (`nexus_tw.interfaces.executors`) once for each attempt; each has `timeout` seconds. Plain calls, which have no record,
have another caller's half (`calls`) and the same executors.

An execution leaves its attempt before the attempt is stopped: later answers of the attempt are ignored, and it ends only once.
"""

from __future__ import annotations

from uuid import uuid4

from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands.book import CommandBook
from nexus_tw.commands.executions import Executions
from nexus_tw.commands.outcomes import failed
from nexus_tw.commands.registry import Registry
from nexus_tw.commands.task import CommandRecord, digest_of, targets_of
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
    ) -> None:
        """See `Executions`."""
        self._clock = clock
        self._registry = registry
        self._limits = limits
        self._metrics = metrics
        self._journal = journal
        self._book = CommandBook(limits, clock, metrics)
        self._executions = Executions(
            clock, announce, presence, spread, registry, self._book, metrics, journal, disclose
        )

    @property
    def open(self) -> int:
        """The number of commands that have not ended."""
        return len(self._book)

    def left(self, peer: Peer) -> None:
        """Remove all callers at a connection that is gone."""
        self._book.left(peer)

    def wake(self, patterns: list[Pattern], agent: str) -> None:
        """Hand over the commands that wait for these patterns, which the agent has registered, in the next reactor turn."""
        self._executions.wake(patterns, agent)

    def call(self, peer: Peer, request: CommandRequest, reply: CommandReply) -> str:
        """Accept a command and return its id; `reply` gets the further answers, perhaps before this returns.

        An id that the same caller has used before means the same command: it is not executed again, and `reply` gets its
        outcome. With another command, other parameters or other targets the id is `invalid_message`.

        Raise `invalid_message`, `forbidden` or `limit_exceeded`; without `ttl` also `no_such_command` or `agent_offline` if
        there is no executor. A refused command is not kept: its id can be used again. With a list of targets, the last two are
        outcomes of the targets concerned.
        """
        try:
            return self._called(peer, request, reply)
        except NexusError as error:
            if is_name(request.command):
                who = peer.principal
                refused = f"refused: {error.code}"
                self._journal.called(who.account, who.subject, request.command, refused, request.command_id)
            raise

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
                if known.owner != caller.identity:
                    raise NexusError("forbidden", "This commandId is another caller's")
                known.check_same(request, targets, digest)
                self._book.attach(known, reply, peer)
                return known.id
        command_id = request.command_id or str(uuid4())
        command = CommandRecord(command_id, caller, peer.number, request, targets, digest, self._clock.seconds())
        own = self._registry.own(name)
        if own is not None and own.interruptible:
            if request.target is not None:
                raise failed("no_such_command", f"{name} is executed by the server itself, not by agents")
        elif command.multi_target or request.ttl:
            self._take(command, reply, peer)
            self._executions.start_all(command)
            return command.id
        executor = self._executions.pick(command, targets[0])
        self._take(command, reply, peer)
        self._executions.start(command, executor, caller)
        return command.id

    def cancel(self, caller: Principal, command_id: str, reply: CommandReply) -> None:
        """End a command: all waiting callers get `cancelled`, and so does `reply`, unless it equals one of them.

        Raise `not_found` if it is unknown or has ended, `forbidden` if it is another caller's.
        """
        command = self._book.find(command_id)
        if command is None:
            raise NexusError("not_found", "No such command")
        if command.owner != caller.identity and not caller.admin:
            raise NexusError("forbidden", "This command is another caller's")
        if command.state is not None:
            raise NexusError("not_found", f"The command has already ended: it is {command.state}")
        error = failed("cancelled", "cancelled")
        told = command.awaited_by(reply)
        self._executions.cancel(command, error)
        if not told:
            reply.error(error, command.id)

    def _take(self, command: CommandRecord, reply: CommandReply, peer: Peer) -> None:
        self._book.add(command)
        self._metrics.commands_started += 1
        self._book.attach(command, reply, peer)
