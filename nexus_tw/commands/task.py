"""Records of commands: request, executions, waiting callers and result.

A record belongs to the caller's half and knows no connection of an executor; `nexus_tw.commands.tasks` moves it from state to
state.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, Protocol
from weakref import ref

import msgspec
from msgspec import Raw
from twisted.internet.interfaces import IDelayedCall

from nexus_tw.commands.outcomes import Failure, json_size
from nexus_tw.commands.states import MOVES, State
from nexus_tw.interfaces.peers import Caller, Peer, Reason
from nexus_tw.interfaces.realm import CommandReply
from nexus_tw.model.commands import CommandRequest, Outcome, ProgressReport, ResultReport
from nexus_tw.model.errors import NexusError, invalid
from nexus_tw.model.names import check_name
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Role
from nexus_tw.runtime.guard import Guard

MAX_TARGETS: Final = 1000
MAX_WAITERS: Final = 64  # callers that wait for one command
MAX_WAITERS_EACH: Final = 8  # of these, at one connection
ANSWER: Final = 160  # bytes of an answer, about, without its result
RECORD: Final = 2048  # at most so many bytes of a kept command are not counted
TARGET: Final = 512  # the same for each further target

NO_PARAMETERS: Final = b"{}"  # replaces parameters that are not needed any more

_guarded: Final = Guard(__name__, "A caller could not be told of its command")


class Work(Protocol):
    """The current attempt of an execution."""

    @property
    def settle(self) -> Callable[[], None] | None:
        """What to call once the ledger knows what became of the attempt's end; None if nobody waits for that."""

    def stop(self, reason: Reason) -> object:
        """End the attempt and interrupt its executor."""

    def end(self) -> None:
        """End the attempt without telling its executor."""


def targets_of(target: str | list[str] | None) -> list[str | None]:
    """Return the agents that must execute a command, each once; None means any executor. Raise `invalid_message` for an invalid
    target."""
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
    """Return a digest of decoded JSON that does not depend on the order of members."""
    return sha256(msgspec.json.encode(parameters, order="deterministic")).digest()


class Execution:
    """The execution of a command, by one executor or for one of several targets."""

    __slots__ = (
        *("_command", "_outcome", "agent_id", "attempt", "node", "place", "spent", "state", "suspect"),
        *("target", "timer", "told", "work"),
    )

    def __init__(self, command: CommandRecord, place: int, target: str | None) -> None:
        # Weak, since the command refers to it: a refused or removed command is freed at once, with its parameters.
        self._command = ref(command)
        self.target = target  # the agent that must execute it; None: any executor
        self.agent_id = target  # the agent that executes it
        self.place = place  # among those of the command
        self.attempt = 0
        self.node = ""  # the node of the executor, while it is carried out
        self.state = State.NEW
        self.spent = False  # it is not handed over any more
        self.told = False  # its end is in the ledger, and callers may learn of it
        self.suspect = False  # an agent that was executing it sent a message that was too long
        self._outcome: Raw | NexusError | Failure | None = None
        # Only while it waits or is executed.
        self.work: Work | None = None
        self.timer: IDelayedCall | None = None

    @property
    def command(self) -> CommandRecord:
        """The command; it exists as long as the execution has not ended."""
        command = self._command()
        assert command is not None, "the command is forgotten"
        return command

    @property
    def outcome(self) -> Raw | NexusError | None:
        """The result or error; None until it has ended."""
        outcome = self._outcome
        if isinstance(outcome, Failure):
            assert self.target is not None
            return NexusError(outcome.code, outcome.message(self.target))
        return outcome

    @outcome.setter
    def outcome(self, outcome: Raw | NexusError) -> None:
        self._outcome = outcome

    def fail(self, error: NexusError, like: Failure | None) -> Failure | None:
        """End with an error. Return the stored failure, for the next target to share: `like` if it has the same error."""
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
        """Code and message of the error; None if it succeeded or has not ended."""
        outcome = self._outcome
        if isinstance(outcome, Failure):
            assert self.target is not None
            return outcome.code, outcome.message(self.target)
        return (outcome.code, outcome.message) if isinstance(outcome, NexusError) else None

    def move(self, state: State) -> None:
        """Enter a state. Raise `ValueError` if it may not follow the present one, which would be a bug."""
        if state not in MOVES[self.state]:
            raise ValueError(f"an execution that is {self.state} cannot become {state}")
        self.state = state

    @property
    def ended(self) -> bool:
        return not MOVES[self.state]


class CommandRecord:
    """An accepted command. It ends once, and each waiting caller gets one final answer.

    With a list of targets (`multi_target`) it ends when the last execution has ended; its state is then `completed`, and its
    results contain the failed targets.
    """

    __slots__ = (
        "__weakref__",
        "_waiters",
        "account",
        "began",
        "caller",
        "decided",
        "digest",
        "ended_at",
        "epoch",
        "error",
        "executions",
        "failure",
        "id",
        "issuer",
        "multi_target",
        "name",
        "open",
        "owner",
        "parameters",
        "retries",
        "rights",
        "size",
        "state",
        "taken",
        "timeout",
        "timer",
        "told",
        "ttl",
        "unspent",
        "valid_until",
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
        """`session` is that of the caller, `owner`. `digest` is that of the parameters (`digest_of`), which are freed
        earlier."""
        self.id = command_id
        self.owner = owner.identity  # not the principal itself, whose grants would be kept for a day
        self.issuer = owner.issuer
        self.account = owner.account
        self.caller = Caller(session, owner.subject, owner.role)
        # The caller's rights and when they end, only where a later attempt needs them.
        self.rights: Role | None = None
        self.valid_until: float | None = None
        self.name = request.command
        # A copy, as a `Raw` keeps the whole message alive that it was decoded from. All executors get this one copy.
        self.parameters = bytes(request.parameters)
        self.digest = digest
        self.timeout = request.timeout
        self.retries = request.retries
        self.began = now
        self.ttl = request.ttl
        self.multi_target = isinstance(request.target, list)
        self.executions = [Execution(self, place, target) for place, target in enumerate(targets)]
        self.open = len(self.executions)
        self.unspent = self.open  # executions that may still be handed over, for which the parameters are kept
        self.timer: IDelayedCall | None = None  # until `expires`, for all executions that wait until then
        self.failure: Failure | None = None  # of the target that failed last
        self.taken = False  # it is in the ledger, as this node's
        self.told = 0  # events of it that a ledger has published
        self.epoch = ""  # of the ledger that has it
        self.decided: State | None = None  # the final state, perhaps not in the ledger yet
        self.state: State | None = None  # the final state
        self.error: NexusError | None = None  # why there is no result
        self.size = 0  # bytes kept
        self.ended_at = 0.0
        self._waiters: list[tuple[CommandReply, Peer]] = []

    @property
    def expires(self) -> float:
        """The time by the clock until which it waits for an executor."""
        return self.began + self.ttl

    @property
    def target(self) -> str | list[str] | None:
        """The target as it was given."""
        targets = [execution.target for execution in self.executions]
        return [target for target in targets if target is not None] if self.multi_target else targets[0]

    @property
    def names(self) -> int:
        """The length of all names of targets."""
        if not self.multi_target:
            return len(self.executions[0].target or "")
        return sum(len(execution.target or "") for execution in self.executions)

    def keep_rights(self, owner: Principal) -> None:
        """Keep the rights of the caller until the command ends: the server itself executes it, and may do so again."""
        self.rights, self.valid_until = owner.rights, owner.expires

    def principal(self) -> Principal:
        """Return the caller as the executor of a later attempt gets it: without rights, unless they were kept."""
        who, until = self.caller, self.valid_until
        return Principal(who.authid, who.authrole, self.rights, until, issuer=self.issuer, account=self.account)

    def kept(self) -> int:
        """Return the bytes of the outcomes so far."""
        results = [each.outcome for each in self.executions if each.ended]
        return sum(json_size(result) if isinstance(result, Raw) else 0 for result in results)

    def check_same(self, request: CommandRequest, targets: list[str | None], digest: bytes) -> None:
        """Raise `invalid_message` if a request with this command's id is for another command, parameters or target."""
        mine = {execution.target for execution in self.executions}
        for what, same in (
            ("another command", request.command == self.name),
            ("other parameters", digest == self.digest),
            ("another target", set(targets) == mine and isinstance(request.target, list) is self.multi_target),
        ):
            if not same:
                raise invalid("commandId", f"was used with {what}")

    def attach(self, reply: CommandReply, peer: Peer) -> None:
        """Send the caller at this peer the outcomes so far, and let it wait for the rest.

        Outcomes that another caller waiting at this peer has got are not sent again. Raise `limit_exceeded` if `MAX_WAITERS`
        callers wait already, or `MAX_WAITERS_EACH` at this peer; `rate_limited` if the peer cannot take the outcomes now.
        """
        if self.state is not None:
            self.replay(reply)
            return
        here = [waiting for waiting, where in self._waiters if where is peer]
        if reply in here:
            return
        if len(self._waiters) >= MAX_WAITERS:
            raise NexusError("limit_exceeded", f"More than {MAX_WAITERS} wait for this command")
        if len(here) >= MAX_WAITERS_EACH:
            raise NexusError("limit_exceeded", f"More than {MAX_WAITERS_EACH} of this connection wait for this command")
        missed = self.multi_target and not here and any(execution.told for execution in self.executions)
        if missed:
            self._check_affordable(reply, 1)
        # First of all: sending may end the peer, which then leaves.
        self._waiters.append((reply, peer))
        if missed:
            self._replay(reply)

    def replay(self, reply: CommandReply) -> None:
        """Send all outcomes of a command that has ended. Raise `rate_limited` if they cannot be taken now."""
        self._check_affordable(reply, 2 if self.multi_target else 1)
        self._replay(reply)
        self._conclude(reply, self._answer())

    def _check_affordable(self, reply: CommandReply, times: int) -> None:
        """Raise `rate_limited` if the caller cannot receive all outcomes, `times` times, now."""
        if not reply.affords(times * (self.size + ANSWER * len(self.executions))):
            raise NexusError("rate_limited", "Earlier answers wait to be read: ask again for that of this command")

    def leave(self, peer: Peer) -> None:
        """Remove all callers that wait at this peer."""
        self._waiters = [waiter for waiter in self._waiters if waiter[1] is not peer]

    def peers(self) -> set[Peer]:
        """Return the peers at which callers wait."""
        return {peer for _, peer in self._waiters}

    def desert(self) -> list[tuple[CommandReply, Peer]]:
        """Remove all callers that wait, and return them with their peers."""
        waiters, self._waiters = self._waiters, []
        return waiters

    def awaited_by(self, reply: CommandReply) -> bool:
        """Return whether an equal caller waits."""
        return any(waiting == reply for waiting, _ in self._waiters)

    def progress(self, agent_id: str | None, data: Raw) -> None:
        progress = ProgressReport(self.id, data, agent_id)
        for reply, _ in list(self._waiters):
            _guarded(reply.progress, progress)

    def settled(self, execution: Execution) -> None:
        """Send the outcome of one of several targets to all waiting callers."""
        execution.told = True
        if self._waiters:
            result = self._of_one(execution)
            for reply, _ in list(self._waiters):
                _guarded(reply.result, result)

    def end(self, state: State, error: NexusError | None) -> None:
        """End the command and send the final answer to all waiting callers; `error` if it has no result."""
        self.state = state
        self.error = error
        self.parameters = NO_PARAMETERS
        self.rights = None
        waiters, self._waiters = self._waiters, []
        if waiters:
            answer = self._answer()
            for reply, _ in waiters:
                _guarded(self._conclude, reply, answer)

    def _replay(self, reply: CommandReply) -> None:
        if self.multi_target and self.error is None:
            for execution in self.executions:
                if execution.told or (self.state is not None and execution.ended):
                    reply.result(self._of_one(execution))

    def _answer(self) -> ResultReport | NexusError:
        """Return the final answer, which every waiter gets."""
        if self.error is not None:
            return self.error
        if self.multi_target:
            return ResultReport(self.id, self.name, [_outcome(execution) for execution in self.executions])
        outcome = self.executions[0].outcome
        assert isinstance(outcome, Raw), outcome
        return ResultReport(self.id, self.name, Outcome(None, outcome))

    def _conclude(self, reply: CommandReply, answer: ResultReport | NexusError) -> None:
        if isinstance(answer, NexusError):
            reply.error(answer, self.id)
        else:
            reply.result(answer)

    def _of_one(self, execution: Execution) -> ResultReport:
        return ResultReport(self.id, self.name, _outcome(execution))


def _outcome(execution: Execution) -> Outcome:
    why, agent_id = execution.why, execution.agent_id
    assert agent_id is not None, execution.state
    if why is not None:
        code, message = why
        return Outcome(agent_id, code=code, message=message)
    outcome = execution.outcome
    assert isinstance(outcome, Raw), execution.state
    return Outcome(agent_id, outcome)
