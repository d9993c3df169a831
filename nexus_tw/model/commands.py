"""Commands as plain values: a request, progress, an executor's answer and the caller's result, in no protocol's form.

JSON that is only passed on stays `Raw`: the bytes as sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from msgspec import Raw, Struct, field

NULL: Final = Raw(b"null")
EMPTY_OBJECT: Final = Raw(b"{}")


class CommandRequest(Struct, frozen=True, gc=False):
    """What a caller wants executed, by which agents, and how long it waits for them. Names are not checked yet."""

    command: str
    parameters: Raw = EMPTY_OBJECT
    target: str | list[str] | None = None  # None: any executor
    command_id: str | None = None  # None: the server chooses one
    timeout: float = 30.0  # s for each attempt
    ttl: float = 0.0  # s to wait for an executor
    retries: int = 0  # further attempts if the agent is lost


class CommandProgress(Struct, frozen=True, gc=False):
    """Intermediate data of a command that is being executed.

    `agent_id` is None if the server itself executes it, or if an executor did not say as which agent it speaks.
    """

    command_id: str
    data: Raw = NULL
    agent_id: str | None = None


class CommandAnswer(Struct, frozen=True, gc=False):
    """An agent's final answer. Without `agent_id` it is for the oldest execution of that command on the connection."""

    command_id: str
    data: Raw = NULL
    status: Literal["success", "error"] = "success"
    message: str | None = None  # of an error
    agent_id: str | None = None


class Outcome(Struct, frozen=True, gc=False):
    """How one execution ended: with the JSON `result`, or with the `code` and `message` of an error."""

    agent_id: str | None
    result: Raw | None = None
    code: str | None = None
    message: str | None = None


class CommandResult(Struct, frozen=True, gc=False):
    """A result for the caller, the same object for all who wait.

    `outcome` is the only executor's (without `agent_id`), one target's of several, or the list of all targets' when the last of
    them has ended.
    """

    command_id: str
    command: str
    outcome: Outcome | list[Outcome]
    forms: dict[str, Raw] = field(default_factory=dict)

    def form(self, name: str, make: Callable[[CommandResult], Raw]) -> Raw:
        """Return the result in a protocol's form; it is made once for all who wait."""
        form = self.forms.get(name)
        if form is None:
            form = self.forms[name] = make(self)
        return form
