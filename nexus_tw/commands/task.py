"""Commands as their callers see them: the record, its executions and their states, who waits, and how long it is remembered.

This is the caller's half. It knows nothing of connections; `nexus_tw.commands.tasks` has the executor's half.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol
from weakref import ref

import msgspec
from msgspec import Raw, Struct
from twisted.internet.interfaces import IDelayedCall

from nexus_tw.interfaces.peers import Caller, Peer, Reason
from nexus_tw.interfaces.realm import CommandReply
from nexus_tw.model.commands import CommandProgress, CommandRequest, CommandResult, Outcome
from nexus_tw.model.errors import NexusError, invalid
from nexus_tw.model.names import check_name
from nexus_tw.model.policy import Principal
from nexus_tw.runtime.guard import Guard

MAX_TARGETS: Final = 1000
MAX_WAITERS: Final = 64  # who wait for one command; those who leave wait no longer
MAX_WAITERS_EACH: Final = 8  # of these, at one connection
ANSWER: Final = 160  # bytes of an answer, about, besides the result in it
RECORD: Final = 2048  # bytes of memory that a remembered command takes besides what is counted, at most
TARGET: Final = 512  # bytes of memory that each further target takes besides what is counted, at most

NO_PARAMETERS: Final = b"{}"  # in the place of parameters that are not needed any more

_guarded: Final = Guard(__name__, "A caller could not be told of its command")


class State(StrEnum):
    """Where an execution stands; all but `NEW` are the `status` of a `task.updated`."""

    NEW = "new"
    QUEUED = "queued"
    SENT = "sent"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


MOVES: Final[dict[State, frozenset[State]]] = {
    State.NEW: frozenset({State.QUEUED, State.SENT, State.RUNNING, State.FAILED, State.CANCELLED}),
    State.QUEUED: frozenset({State.SENT, State.FAILED, State.CANCELLED, State.EXPIRED}),
    # Back to the queue, or at once to another agent, is a further attempt after an agent was lost.
    State.SENT: frozenset({State.QUEUED, State.SENT, State.RUNNING, State.COMPLETED, State.FAILED, State.CANCELLED}),
    State.RUNNING: frozenset({State.QUEUED, State.SENT, State.COMPLETED, State.FAILED, State.CANCELLED}),
    State.COMPLETED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.EXPIRED: frozenset(),
}
"""Which state may follow which: the final ones have none."""


class TaskUpdated(Struct, rename="camel", omit_defaults=True, gc=False):
    """`task.updated`: `{taskId: the commandId, command, agentId?, status, timestamp}`."""

    task_id: str
    command: str
    status: str
    timestamp: str
    agent_id: str | None = None


class Work(Protocol):
    """What an execution has set going, seen by those who want it stopped."""

    def stop(self, reason: Reason) -> object:
        """Nobody waits for its outcome any more."""

    def end(self) -> None:
        """It is given up; nothing is told to who executes it."""


def targets_of(target: str | list[str] | None) -> list[str | None]:
    """The agents that must execute a command, each once; None for whoever does. Raises for what is no target."""
    if target is None:
        return [None]
    if isinstance(target, str):
        return [check_name(target, "target")]
    if not target:
        raise invalid("target", "must not be empty")
    if len(target) > MAX_TARGETS:
        raise NexusError("limit_exceeded", f"More than {MAX_TARGETS} targets")
    return list(dict.fromkeys(check_name(agent_id, "target") for agent_id in target))


def digest_of(parameters: Any) -> bytes:
    """Return a digest of decoded JSON, the same for objects whose members come in another order."""
    return sha256(msgspec.json.encode(parameters, order="deterministic")).digest()


def failed(code: str, why: str) -> NexusError:
    """How a command ended without success, in the words that the protocol fixes."""
    return NexusError(code, f"Command execution failed: {why}")


class Failure(NamedTuple):
    """How one of several targets failed: without the name of the target, so that those that failed alike share one."""

    code: str
    before: str  # the message up to the name of the target
    after: str | None  # the message behind it; None: it does not name the target

    @classmethod
    def of(cls, error: NexusError, target: str) -> Failure:
        before, named, after = error.message.partition(target)
        return cls(error.code, before, after if named else None)

    def message(self, target: str) -> str:
        """Return the message of the error that it was made of."""
        return self.before if self.after is None else f"{self.before}{target}{self.after}"


class Execution:
    """One executor's part in a command: the whole of it, or one target's of several."""

    __slots__ = ("_command", "_outcome", "agent_id", "attempt", "state", "suspect", "target", "timer", "work")

    def __init__(self, command: CommandRecord, target: str | None) -> None:
        # Weakly, as the command refers to it: one that is refused or forgotten is freed at once, and its parameters with it.
        self._command = ref(command)
        self.target = target  # the agent that it must be; None: whoever executes the command
        self.agent_id = target  # the agent that it is
        self.attempt = 0
        self.state = State.NEW
        self.suspect = False  # an agent that had it in hand sent a message that was too long
        self._outcome: Raw | NexusError | Failure | None = None
        # The executor's half; there only while it waits or is executed.
        self.work: Work | None = None
        self.timer: IDelayedCall | None = None

    @property
    def command(self) -> CommandRecord:
        """The command that it is of, which is there as long as anything is to be done about it."""
        command = self._command()
        assert command is not None, "the command is forgotten"
        return command

    @property
    def outcome(self) -> Raw | NexusError | None:
        """What came of it; None until it has ended."""
        outcome = self._outcome
        if isinstance(outcome, Failure):
            assert self.target is not None
            return NexusError(outcome.code, outcome.message(self.target))
        return outcome

    @outcome.setter
    def outcome(self, outcome: Raw | NexusError) -> None:
        self._outcome = outcome

    def fail(self, error: NexusError, like: Failure | None) -> Failure | None:
        """Keep the error as the outcome, and return what was kept if that can be shared: `like`, if that says the same."""
        target = self.target
        if target is None:
            self._outcome = error
            return like
        if like is None or like.code != error.code or like.message(target) != error.message:
            like = Failure.of(error, target)
        self._outcome = like
        return like

    @property
    def why(self) -> tuple[str, str] | None:
        """The code and the message of its failure; None if it succeeded, or has not ended."""
        outcome = self._outcome
        if isinstance(outcome, Failure):
            assert self.target is not None
            return outcome.code, outcome.message(self.target)
        return (outcome.code, outcome.message) if isinstance(outcome, NexusError) else None

    def move(self, state: State) -> None:
        """Enters the state; one that may not follow is a fault of ours and raises `ValueError`."""
        if state not in MOVES[self.state]:
            raise ValueError(f"an execution that is {self.state} cannot become {state}")
        self.state = state

    @property
    def ended(self) -> bool:
        return not MOVES[self.state]


class CommandRecord:
    """A command that was taken: it ends once, and everybody who waits then is told so once.

    With a list of targets (`multi_target`) it ends when the last of them has, and is `completed` however each did: that is
    in the results.
    """

    __slots__ = (
        "__weakref__",
        "_waiters",
        "account",
        "caller",
        "digest",
        "ended_at",
        "error",
        "executions",
        "expires",
        "failure",
        "id",
        "multi_target",
        "name",
        "open",
        "owner",
        "parameters",
        "retries",
        "size",
        "state",
        "timeout",
        "timer",
        "unspent",
    )

    def __init__(
        self,
        command_id: str,
        owner: Principal,
        session: int,
        request: CommandRequest,
        targets: list[str | None],
        digest: bytes,
        now: float,
    ) -> None:
        """`owner` gives it in the session of that id. `digest` is that of the parameters (`digest_of`), which outlives them."""
        self.id = command_id
        self.owner = owner.identity  # not the principal itself, whose grants would be kept for a day
        self.account = owner.account
        self.caller = Caller(session, owner.subject, owner.role)
        self.name = request.command
        # Copied: a `Raw` keeps the whole message alive that it was decoded from. All who execute it are given this one copy.
        self.parameters = bytes(request.parameters)
        self.digest = digest
        self.timeout = request.timeout
        self.retries = request.retries
        self.expires = now + request.ttl
        self.multi_target = isinstance(request.target, list)
        self.executions = [Execution(self, target) for target in targets]
        self.open = len(self.executions)
        self.unspent = self.open  # executions that may still be handed over, and need the parameters for it
        self.timer: IDelayedCall | None = None  # until `expires`, for all that wait until then
        self.failure: Failure | None = None  # of the target that failed last
        self.state: State | None = None  # the final one
        self.error: NexusError | None = None  # why there is no result
        self.size = 0  # bytes kept
        self.ended_at = 0.0
        self._waiters: list[tuple[CommandReply, Peer]] = []

    def check_same(self, request: CommandRequest, targets: list[str | None], digest: bytes) -> None:
        """Raise `invalid_message` where a request with this command's id asks for something else."""
        mine = {execution.target for execution in self.executions}
        for what, same in (
            ("another command", request.command == self.name),
            ("other parameters", digest == self.digest),
            ("another target", set(targets) == mine and isinstance(request.target, list) is self.multi_target),
        ):
            if not same:
                raise invalid("commandId", f"was used with {what}")

    def attach(self, reply: CommandReply, peer: Peer) -> None:
        """Tell the caller at this peer what it has missed and, unless that was all, what comes.

        What was told at this connection already, to one who still waits there, is not told again. Raise `limit_exceeded` if
        `MAX_WAITERS` wait already, or `MAX_WAITERS_EACH` there, and `rate_limited` if the connection cannot take it now.
        """
        if self.state is not None:
            self._check_affordable(reply, 2 if self.multi_target else 1)
            self._replay(reply)
            self._conclude(reply, self._answer())
            return
        here = [waiting for waiting, where in self._waiters if where is peer]
        if reply in here:
            return
        if len(self._waiters) >= MAX_WAITERS:
            raise NexusError("limit_exceeded", f"More than {MAX_WAITERS} wait for this command")
        if len(here) >= MAX_WAITERS_EACH:
            raise NexusError("limit_exceeded", f"More than {MAX_WAITERS_EACH} of this connection wait for this command")
        missed = self.multi_target and not here and any(execution.ended for execution in self.executions)
        if missed:
            self._check_affordable(reply, 1)
        # First of all: to be told something may end the peer, which then leaves.
        self._waiters.append((reply, peer))
        if missed:
            self._replay(reply)

    def _check_affordable(self, reply: CommandReply, times: int) -> None:
        """Raise `rate_limited` if all that is kept, so many times, is more than this one can be told now."""
        if not reply.affords(times * (self.size + ANSWER * len(self.executions))):
            raise NexusError("rate_limited", "Earlier answers wait to be read: ask again for that of this command")

    def leave(self, peer: Peer) -> None:
        """Forget all who wait at this peer."""
        self._waiters = [waiter for waiter in self._waiters if waiter[1] is not peer]

    def peers(self) -> set[Peer]:
        """Return those at which somebody waits."""
        return {peer for _, peer in self._waiters}

    def awaited_by(self, reply: CommandReply) -> bool:
        """Whether one equal to this waits."""
        return any(waiting == reply for waiting, _ in self._waiters)

    def progress(self, agent_id: str | None, data: Raw) -> None:
        progress = CommandProgress(self.id, data, agent_id)
        for reply, _ in list(self._waiters):
            _guarded(reply.progress, progress)

    def settled(self, execution: Execution) -> None:
        """Tells all who wait how one of several targets did."""
        if self._waiters:
            result = self._of_one(execution)
            for reply, _ in list(self._waiters):
                _guarded(reply.result, result)

    def end(self, state: State, error: NexusError | None) -> None:
        """Ends it and tells all who wait; `error` where there is no result to tell."""
        self.state = state
        self.error = error
        self.parameters = NO_PARAMETERS
        waiters, self._waiters = self._waiters, []
        if waiters:
            answer = self._answer()
            for reply, _ in waiters:
                _guarded(self._conclude, reply, answer)

    def _replay(self, reply: CommandReply) -> None:
        if self.multi_target and self.error is None:
            for execution in self.executions:
                if execution.ended:
                    reply.result(self._of_one(execution))

    def _answer(self) -> CommandResult | NexusError:
        """Return the final answer, which every waiter gets."""
        if self.error is not None:
            return self.error
        if self.multi_target:
            return CommandResult(self.id, self.name, [_outcome(execution) for execution in self.executions])
        outcome = self.executions[0].outcome
        assert isinstance(outcome, Raw), outcome
        return CommandResult(self.id, self.name, Outcome(None, outcome))

    def _conclude(self, reply: CommandReply, answer: CommandResult | NexusError) -> None:
        if isinstance(answer, NexusError):
            reply.error(answer, self.id)
        else:
            reply.result(answer)

    def _of_one(self, execution: Execution) -> CommandResult:
        return CommandResult(self.id, self.name, _outcome(execution))


def _outcome(execution: Execution) -> Outcome:
    why, agent_id = execution.why, execution.agent_id
    assert agent_id is not None, execution.state
    if why is not None:
        code, message = why
        return Outcome(agent_id, code=code, message=message)
    outcome = execution.outcome
    assert isinstance(outcome, Raw), execution.state
    return Outcome(agent_id, outcome)


def json_size(raw: Raw) -> int:
    return memoryview(raw).nbytes
