"""Conversion of commands between the JSON protocol's messages and the core's values."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from nexus_tw.model.commands import CommandAnswer, CommandRequest, Outcome, ProgressReport, ResultReport
from nexus_tw.protocols.native import messages

_FORM: Final = "json"

_encode: Final = msgspec.json.Encoder().encode


def request_of(message: messages.Command) -> CommandRequest:
    """Return a caller's request."""
    return CommandRequest(
        message.command,
        message.parameters,
        message.target,
        message.command_id,
        message.timeout,
        message.ttl,
        message.retries,
    )


def progress_of(message: messages.Progress) -> ProgressReport:
    """Return an agent's progress."""
    return ProgressReport(message.command_id, message.data, message.agent_id)


def answer_of(message: messages.Result) -> CommandAnswer:
    """Return an agent's answer."""
    return CommandAnswer(message.command_id, message.data, message.status, message.message, message.agent_id)


def progress_message(progress: ProgressReport, id_: messages.Id = None) -> messages.CommandProgress:
    """Return a caller's progress message; `id_` is that of its `command`."""
    return messages.CommandProgress(id=id_, command_id=progress.command_id, data=progress.data, agent_id=progress.agent_id)


def result_message(result: ResultReport, id_: messages.Id = None) -> messages.CommandResult:
    """Return a caller's result message; `id_` is that of its `command`. The JSON is encoded once for all waiting callers."""
    outcome = result.outcome
    agent_id = None
    if isinstance(outcome, Outcome):
        agent_id = outcome.agent_id
        if outcome.result is None:
            return messages.CommandResult(
                id=id_,
                command_id=result.command_id,
                status="error",
                agent_id=agent_id,
                code=outcome.code,
                message=outcome.message,
            )
    data = result.form(_FORM, _data)
    return messages.CommandResult(id=id_, command_id=result.command_id, status="success", agent_id=agent_id, data=data)


def _data(result: ResultReport) -> Raw:
    outcome = result.outcome
    if isinstance(outcome, Outcome):
        assert outcome.result is not None
        return Raw(_encode(messages.Executed(result.command_id, result.command, outcome.result)))
    results = [_agent_outcome(each) for each in outcome]
    return Raw(_encode(messages.ExecutedByAll(result.command_id, result.command, results)))


def _agent_outcome(outcome: Outcome) -> messages.AgentOutcome:
    assert outcome.agent_id is not None
    if outcome.result is None:
        return messages.AgentOutcome(outcome.agent_id, "error", code=outcome.code, message=outcome.message)
    return messages.AgentOutcome(outcome.agent_id, "success", outcome.result)
