"""Commands as the ledger keeps them: written from a record, and made into a record again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct

from nexus_tw.commands.states import MOVES, State
from nexus_tw.commands.task import CommandRecord, Execution, targets_of
from nexus_tw.interfaces.ledger import Entry, Mark
from nexus_tw.model.commands import NULL, CommandRequest, CommandState, Outcome
from nexus_tw.model.errors import NexusError
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Role


class Head(Struct, array_like=True, gc=False):
    """What never changes: the caller and the request."""

    subject: str
    issuer: str
    account: str
    role: str
    session: int
    command: str
    parameters: Raw
    digest: str  # of the parameters, in hex
    target: str | list[str] | None
    timeout: float
    ttl: float
    retries: int
    rights: Role | None = None  # of the caller, and until when: see `CommandRecord.keep_rights`
    valid_until: float | None = None


class Standing(Struct, array_like=True, gc=False):
    """The state of an execution: who carries it out, or how it ended."""

    state: State
    attempt: int
    agent_id: str | None = None
    node: str = ""  # that of the executor; empty while there is none
    suspect: bool = False
    result: Raw = NULL
    code: str = ""  # of an error
    message: str = ""


class End(Struct, array_like=True, gc=False):
    """How the whole command ended."""

    state: State
    code: str = ""
    message: str = ""


_encode: Final = msgspec.json.Encoder().encode
_head: Final = msgspec.json.Decoder(Head).decode
_standing: Final = msgspec.json.Decoder(Standing).decode
_end: Final = msgspec.json.Decoder(End).decode


def entry_of(command: CommandRecord, node: str, now: float, events: Sequence[bytes]) -> Entry:
    """Return the entry of an open command that this node drives, with those events of its marks that are not told."""
    caller = command.caller
    head = Head(
        caller.authid,
        command.issuer,
        command.account,
        caller.authrole,
        caller.session,
        command.name,
        Raw(command.parameters),
        command.digest.hex(),
        command.target,
        command.timeout,
        command.ttl,
        command.retries,
        command.rights,
        command.valid_until,
    )
    executions = enumerate(command.executions)
    marks = {place: Mark(mark_of(each)) for place, each in executions if each.state is not State.NEW}
    age = max(0.0, now - command.began)
    return Entry(command.id, node, _encode(head), marks, b"", age, command.account, command.told, events)


def mark_of(execution: Execution) -> bytes:
    """Return the mark of an execution as it is now."""
    standing = Standing(execution.state, execution.attempt, execution.agent_id, execution.node, execution.suspect)
    why, outcome = execution.why, execution.outcome
    if why is not None:
        standing.code, standing.message = why
    elif isinstance(outcome, Raw):
        standing.result = outcome
    return _encode(standing)


def end_of(state: State, error: NexusError | None) -> bytes:
    """Return the end of a command for the ledger."""
    return _encode(End(state) if error is None else End(state, error.code, error.message))


def record_of(entry: Entry, now: float) -> CommandRecord:
    """Return a record of this entry, at the time `now` by the reactor's clock. Its open executions are as their driver had
    them; nobody waits for it."""
    head = _head(entry.head)
    owner = Principal(head.subject, head.role, issuer=head.issuer, account=head.account)
    request = CommandRequest(
        head.command, head.parameters, head.target, entry.command_id, head.timeout, head.ttl, head.retries
    )
    digest = bytes.fromhex(head.digest)
    command = CommandRecord(
        entry.command_id, owner, head.session, request, targets_of(head.target), digest, now - entry.age
    )
    command.taken = True
    command.told = entry.told
    command.rights, command.valid_until = head.rights, head.valid_until
    for place, mark in entry.marks.items():
        execution, standing = command.executions[place], _standing(mark.body)
        execution.state, execution.attempt = standing.state, standing.attempt
        execution.agent_id, execution.node, execution.suspect = standing.agent_id, standing.node, standing.suspect
        if execution.ended:
            execution.told = True
            command.open -= 1
            if standing.code:
                command.failure = execution.fail(NexusError(standing.code, standing.message), command.failure)
            else:
                execution.outcome = standing.result
        if execution.ended or execution.attempt > command.retries:
            execution.spent = True
            command.unspent -= 1
    if entry.final:
        end = _end(entry.final)
        command.decided = command.state = end.state
        command.error = NexusError(end.code, end.message) if end.code else None
        command.size = len(entry.head) + sum(len(mark.body) for mark in entry.marks.values())
    return command


# An open command with several targets is in the first of these states that one of them is in.
_ORDER: Final = (State.RUNNING, State.SENT, State.QUEUED)


def state_of(entry: Entry) -> CommandState:
    """Return what an entry tells of a command."""
    head = _head(entry.head)
    standings = {place: _standing(mark.body) for place, mark in sorted(entry.marks.items())}
    if entry.final:
        status = _end(entry.final).state
    else:
        open_ = {standing.state for standing in standings.values()}
        status = next((state for state in _ORDER if state in open_), State.QUEUED)
    results = [
        Outcome(each.agent_id, None, each.code, each.message) if each.code else Outcome(each.agent_id, each.result)
        for each in standings.values()
        if not MOVES[each.state]
    ]
    return CommandState(
        entry.command_id,
        head.command,
        head.parameters,
        head.target,
        head.subject,
        status.value,
        max((standing.attempt for standing in standings.values()), default=0),
        entry.age,
        min((mark.age for mark in entry.marks.values()), default=entry.age),
        results,
    )
