"""Commands as plain values, independent of a protocol: request, progress, the executor's answer and the caller's result.

JSON that is only passed on stays `Raw`: the bytes as received.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from msgspec import Raw, Struct, field

NULL: Final = Raw(b"null")
EMPTY_OBJECT: Final = Raw(b"{}")


class CommandRequest(Struct, frozen=True, gc=False):
    """A caller's request to execute a command: its target agents and time limits. Names are not validated yet."""

    command: str
    parameters: Raw = EMPTY_OBJECT
    target: str | list[str] | None = None  # None: any executor
    command_id: str | None = None  # None: the server chooses one
    timeout: float = 30.0  # seconds for each attempt
    ttl: float = 0.0  # seconds to wait for an executor
    retries: int = 0  # further attempts if the agent is lost


class ProgressReport(Struct, frozen=True, gc=False):
    """Intermediate data of a command that is being executed.

    `agent_id` is None if the server itself executes it, or if the executor did not name its agent.
    """

    command_id: str
    data: Raw = NULL
    agent_id: str | None = None


class CommandAnswer(Struct, frozen=True, gc=False):
    """An agent's final answer. Without `agent_id` it belongs to the oldest execution of that command on the connection."""

    command_id: str
    data: Raw = NULL
    status: Literal["success", "error"] = "success"
    message: str | None = None  # of an error
    agent_id: str | None = None


class Outcome(Struct, frozen=True, gc=False):
    """The end of one execution: the JSON `result`, or the `code` and `message` of an error."""

    agent_id: str | None
    result: Raw | None = None
    code: str | None = None
    message: str | None = None


class ResultReport(Struct, frozen=True, gc=False):
    """A result for the caller; all callers that wait for the command get the same object.

    `outcome` is that of the only executor (without `agent_id`), that of one target of several, or the list of all targets'
    outcomes once the last of them has ended.
    """

    command_id: str
    command: str
    outcome: Outcome | list[Outcome]
    forms: dict[str, Raw] = field(default_factory=dict)

    def form(self, name: str, make: Callable[[ResultReport], Raw]) -> Raw:
        """Return the result in the form of protocol `name`; `make` builds it once for all waiting callers."""
        form = self.forms.get(name)
        if form is None:
            form = self.forms[name] = make(self)
        return form


class CommandState(NamedTuple):
    """What is known of a command; `created` and `updated` are how many seconds ago that was."""

    command_id: str
    command: str
    parameters: Raw
    target: str | list[str] | None
    caller: str
    status: str
    attempts: int  # of the execution with most of them
    created: float
    updated: float
    results: list[Outcome]  # of the executions that have ended
