"""Updates: the states of executions as events `task.updated`, and as lines of the audit trail."""

from __future__ import annotations

import msgspec
from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands.audit import Audit
from nexus_tw.commands.pen import Pen
from nexus_tw.commands.states import State, TaskUpdated
from nexus_tw.commands.task import CommandRecord, Execution
from nexus_tw.model.times import Timestamps
from nexus_tw.presence.agents import Announce
from nexus_tw.runtime.walltime import wall


class Updates:
    """Announces each state, and notes it, as far as the ledger does not: one that *tells* announces what is written into it,
    one that *notes* adds the line to the trail in the same step."""

    def __init__(self, clock: IReactorTime, announce: Announce, pen: Pen) -> None:
        self._clock = clock
        self._announce = announce
        self._pen = pen
        self._timestamps = Timestamps()
        self.audit: Audit | None = None  # gets each state

    def written(self, command: CommandRecord, *executions: Execution, whole: State | None = None) -> list[bytes]:
        """Return what the ledger tells or notes of the states of these executions, and with several targets of the `whole`."""
        whole = whole if command.multi_target else None
        if self._pen.tells:
            events = [self._event(command, each.agent_id, each.state) for each in executions]
            return events if whole is None else [*events, self._event(command, None, whole)]
        audit = self.audit
        if audit is None or not self._pen.notes:
            return []
        lines = [
            audit.line(command, each.state, each.agent_id, each.attempt, each.node, _code(each.why)) for each in executions
        ]
        return lines if whole is None else [*lines, audit.line(command, whole, None, 0, "", "")]

    def tell(
        self,
        command: CommandRecord,
        agent_id: str | None,
        state: State,
        attempt: int = 0,
        node: str = "",
        why: tuple[str, str] | None = None,
    ) -> None:
        """Tell a state that is written: of an execution, with its attempt and the node of its executor, or of the command."""
        if not self._pen.tells:
            self._announce("task.updated", self._event(command, agent_id, state), command.account)
        if self.audit is not None and not self._pen.notes:
            self.audit.note(command.id, self.audit.line(command, state, agent_id, attempt, node, _code(why)))

    def stop(self) -> None:
        """Note what waits to be noted, and nothing after that."""
        if self.audit is not None:
            self.audit.stop()

    def _event(self, command: CommandRecord, agent_id: str | None, state: State) -> bytes:
        timestamp = self._timestamps.text(wall(self._clock))
        return msgspec.json.encode(TaskUpdated(command.id, command.name, state.value, timestamp, agent_id))


def _code(why: tuple[str, str] | None) -> str:
    return why[0] if why else ""
