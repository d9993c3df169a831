"""Progress and answers of agents that speak by command ids (the JSON protocol), to the invocations that they are for."""

from __future__ import annotations

from nexus_tw.commands.invocations import Invocations
from nexus_tw.interfaces.peers import Invocation, Peer
from nexus_tw.model import payloads
from nexus_tw.model.commands import CommandAnswer, ProgressReport
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.payloads import Payload
from nexus_tw.model.settings import Limits


class Answers:
    """Receives progress and answers. Raise `not_found` if the connection never executed that command, `invalid_message` if the
    data is invalid."""

    def __init__(self, invocations: Invocations, limits: Limits, metrics: Metrics) -> None:
        self._invocations = invocations
        self._limits = limits
        self._metrics = metrics

    def progress(self, peer: Peer, progress: ProgressReport) -> None:
        payloads.decode(progress.data, "data", self._limits.depth)
        invocation = self._executed_by(peer, progress.command_id, progress.agent_id)
        if invocation is not None:
            invocation.progress(Payload.of_value(bytes(progress.data)))

    def result(self, peer: Peer, answer: CommandAnswer) -> None:
        payloads.decode(answer.data, "data", self._limits.depth)
        invocation = self._executed_by(peer, answer.command_id, answer.agent_id)
        if invocation is None:
            return
        if answer.status == "success":
            invocation.result(Payload.of_value(bytes(answer.data)))
        else:
            invocation.error(NexusError("failed", answer.message or "the agent gave no reason"))

    def _executed_by(self, peer: Peer, command_id: str, agent_id: str | None) -> Invocation | None:
        """Return the open invocation that this message refers to, or None if it ended recently."""
        invocation = self._invocations.find(peer, command_id, agent_id)
        if invocation is not None:
            return invocation
        if not self._invocations.had(peer, command_id):
            raise NexusError("not_found", "This connection does not execute such a command")
        self._metrics.commands_late += 1
        return None
