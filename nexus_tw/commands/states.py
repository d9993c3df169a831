"""The states of an execution, and the event that announces them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct


class State(StrEnum):
    """The state of an execution; all but `NEW` are also the `status` of a `task.updated`."""

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
    # To an heir that executes it itself, where the node before did not.
    State.QUEUED: frozenset({State.SENT, State.RUNNING, State.FAILED, State.CANCELLED, State.EXPIRED}),
    # A further attempt after a lost agent goes back to the queue, or at once to another agent; one after a lost node, to the
    # handler of its heir.
    State.SENT: frozenset({State.QUEUED, State.SENT, State.RUNNING, State.COMPLETED, State.FAILED, State.CANCELLED}),
    State.RUNNING: frozenset(
        {State.QUEUED, State.SENT, State.RUNNING, State.COMPLETED, State.FAILED, State.CANCELLED}
    ),
    State.COMPLETED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.EXPIRED: frozenset(),
}
"""The states that may follow each state; none follows a final one."""


UNDER_WAY: Final = (State.SENT, State.RUNNING)


class TaskUpdated(Struct, rename="camel", omit_defaults=True, gc=False):
    """`task.updated`: `{taskId: the commandId, command, agentId?, status, timestamp}`."""

    task_id: str
    command: str
    status: str
    timestamp: str
    agent_id: str | None = None
