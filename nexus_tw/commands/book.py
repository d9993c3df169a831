"""The book of commands: remembers them, within bounds."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

from msgspec import Raw
from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands.outcomes import failed, json_size
from nexus_tw.commands.task import NO_PARAMETERS, CommandRecord, Execution
from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.realm import CommandReply
from nexus_tw.model.budgets import Budget
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Limits

DAY: Final = 86400.0  # seconds for which an ended command is kept
MAX_BYTES: Final = 64 * 1024 * 1024  # of parameters and results


class CommandBook:
    """Keeps commands that have not ended, and ended ones for a day.

    Beyond `limits.commands` (each of several targets counts as one) or `MAX_BYTES`, the oldest ended commands are removed
    early; beyond a caller's share of either, the caller's own. The id of a removed command may be used again. `MAX_BYTES`
    bounds parameters, results and names; `RECORD` and `TARGET` bound the memory that is not counted.
    """

    def __init__(self, limits: Limits, clock: IReactorTime, metrics: Metrics) -> None:
        self._limits = limits
        self._clock = clock
        self._live: dict[str, CommandRecord] = {}
        self._ended: OrderedDict[str, CommandRecord] = OrderedDict()
        self._pending: Counter[str] = Counter()
        self._awaited: dict[Peer, dict[CommandRecord, None]] = {}  # commands that have not ended, by peers of waiting callers
        self._ended_of: dict[str, OrderedDict[str, CommandRecord]] = {}  # by account
        self._counts = Budget("commands", "commands", limits, metrics)
        self._bytes = Budget("command_bytes", MAX_BYTES, limits, metrics)

    def __len__(self) -> int:
        """Return the number of commands that have not ended."""
        return len(self._live)

    def find(self, command_id: str) -> CommandRecord | None:
        """Return the command of that id, or None if it is not remembered."""
        self._forget_old()
        return self._live.get(command_id) or self._ended.get(command_id)

    def add(self, command: CommandRecord) -> None:
        """Remember a new command. Raise `limit_exceeded` if there is no room for it."""
        limits, account = self._limits, command.account
        if limits.pending and self._pending[account] >= limits.pending:
            raise NexusError("limit_exceeded", f"More than {limits.pending} commands of this caller have not ended")
        count = len(command.executions)
        # Names of targets are kept as long as the command, parameters until no execution needs them.
        size = len(command.parameters) + command.names
        self._forget_old()
        self._make_room(account, count, size)
        self._counts.take(account, count)
        try:
            self._bytes.take(account, size)
        except NexusError:
            self._counts.give_back(account, count)
            raise
        command.size = size
        self._live[command.id] = command
        self._pending[account] += 1

    def attach(self, command: CommandRecord, reply: CommandReply, peer: Peer) -> None:
        """Let a caller at this peer wait for a remembered command; see `CommandRecord.attach`."""
        if command.state is None:
            self._awaited.setdefault(peer, {})[command] = None
        try:
            command.attach(reply, peer)
        finally:
            if peer not in command.peers():
                self._leave(peer, command)

    def adopt(self, command: CommandRecord) -> None:
        """Remember an open command that another process has accepted, whether there is room or not."""
        account = command.account
        command.size = len(command.parameters) + command.names + command.kept()
        self._counts.count(account, len(command.executions))
        self._bytes.count(account, command.size)
        self._live[command.id] = command
        self._pending[account] += 1

    def discard(self, command: CommandRecord) -> list[tuple[CommandReply, Peer]]:
        """Forget an open command. Return the callers that wait for it."""
        for peer in command.peers():
            self._leave(peer, command)
        del self._live[command.id]
        self._unpend(command.account)
        self._counts.give_back(command.account, len(command.executions))
        self._bytes.give_back(command.account, command.size)
        return command.desert()

    def has(self, command: CommandRecord) -> bool:
        """Return whether this very record is remembered and has not ended."""
        return self._live.get(command.id) is command

    def live(self) -> list[CommandRecord]:
        """Return the commands that have not ended."""
        return list(self._live.values())

    def left(self, peer: Peer) -> None:
        """Remove all callers at a peer that is gone. Its commands go on."""
        for command in self._awaited.pop(peer, ()):
            command.leave(peer)

    def _leave(self, peer: Peer, command: CommandRecord) -> None:
        awaited = self._awaited.get(peer)
        if awaited is not None:
            awaited.pop(command, None)
            if not awaited:
                del self._awaited[peer]

    def settle(self, execution: Execution, outcome: Raw | NexusError) -> None:
        """Keep the outcome of an execution.

        Results of several targets are kept until the last has ended; if there is no room for one, an error replaces it. The
        result of a single execution is sent at once, and may be forgotten after that.
        """
        command = execution.command
        size = json_size(outcome) if isinstance(outcome, Raw) else len(outcome.message)
        if command.multi_target:
            self._make_room(command.account, 0, size)
            if self._bytes.spills(command.account, size) or self._bytes.full(size):
                outcome = failed("limit_exceeded", "there is no room for this result beside those of other targets")
                size = len(outcome.message)
        if command.multi_target and isinstance(outcome, NexusError):
            command.failure = execution.fail(outcome, command.failure)
        else:
            execution.outcome = outcome
        command.size += size
        self._bytes.count(command.account, size)

    def spend(self, command: CommandRecord) -> None:
        """Free the parameters of a command that is not handed over any more."""
        size = len(command.parameters) - len(NO_PARAMETERS)
        if size > 0:
            command.parameters = NO_PARAMETERS
            command.size -= size
            self._bytes.give_back(command.account, size)

    def restore(self, command: CommandRecord, parameters: bytes) -> None:
        """Count an execution again that is handed over once more; these are the parameters."""
        if not command.unspent:
            size = len(parameters) - len(command.parameters)
            command.parameters = parameters
            command.size += size
            self._bytes.count(command.account, size)
        command.unspent += 1

    def ended(self, command: CommandRecord) -> None:
        """End the command: free its parameters, and keep it for a day."""
        for peer in command.peers():
            self._leave(peer, command)
        account = command.account
        del self._live[command.id]
        self._unpend(account)
        size = len(command.parameters)
        command.size -= size
        self._bytes.give_back(account, size)
        command.failure = None
        command.ended_at = self._clock.seconds()
        self._ended[command.id] = command
        mine = self._ended_of.get(account)
        if mine is None:
            mine = self._ended_of[account] = OrderedDict()
        mine[command.id] = command
        self._make_room(account, 0, 0)

    def _unpend(self, account: str) -> None:
        self._pending[account] -= 1
        if not self._pending[account]:
            del self._pending[account]

    def _forget_old(self) -> None:
        before = self._clock.seconds() - DAY
        while self._ended and (first := next(iter(self._ended.values()))).ended_at <= before:
            self._forget(first)

    def _make_room(self, account: str, count: int, size: int) -> None:
        """Forget ended commands as far as it helps: the account's own if its share is used up, else the oldest of all."""
        counts, kept = self._counts, self._bytes
        while self._ended and not (counts.fits(account, count) and kept.fits(account, size)):
            if counts.spills(account, count) or kept.spills(account, size):
                mine = self._ended_of.get(account)
                if not mine:
                    return
                self._forget(next(iter(mine.values())))
            else:
                self._forget(next(iter(self._ended.values())))

    def _forget(self, command: CommandRecord) -> None:
        account = command.account
        del self._ended[command.id]
        mine = self._ended_of[account]
        del mine[command.id]
        if not mine:
            del self._ended_of[account]
        self._counts.give_back(account, len(command.executions))
        self._bytes.give_back(account, command.size)
