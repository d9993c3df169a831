"""The contract between a caller's half and whatever carries out its command or call.

A command or call has two halves. The caller's half (`nexus_tw.commands.executions` for commands, `nexus_tw.commands.calls` for
plain calls) picks an executor and hands it an `Invocation`; from then on the two exchange no more than what is written here. An
executor is a connected peer acting as an agent, a command handler in Python, or a procedure of the server. An agent on another
node would be one more class that keeps this contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nexus_tw.interfaces.peers import Invocation, Reason
    from nexus_tw.model.payloads import Payload
    from nexus_tw.model.policy import Principal


class Executor(Protocol):
    """Carries out commands and calls of one name, for one agent or for the server itself.

    The order for each invocation is `room`, `start`, any number of `further` parts, and at the end `release`; `interrupt` may
    come at any time after `start`, also after `release`.

    Exactly once:

    * `start` is called once for an invocation. It accepts it or raises; if it raises, the invocation is over.
    * An accepted invocation ends once, by whichever comes first. The executor ends it by exactly one of `Invocation.result`,
      `error`, `lost` (the executor is gone) and `overran` (it is gone because of a message that was too long); it may do so
      within `start`. The caller's half ends it by `end` or `stop`.
    * In either case, `release` is called once, before the caller's half learns of the end. Later answers of the executor are
      ignored.
    * An executor that goes away ends all invocations that it has accepted and not released, each by `lost` or `overran`.
    """

    @property
    def agent_id(self) -> str | None:
        """The agent that it acts as; None: the server itself."""

    @property
    def streams(self) -> bool:
        """Whether it takes further parts of the arguments."""

    @property
    def local(self) -> bool:
        """Whether it runs in this server: from `start` on it is running, and holds the arguments until it ends."""

    @property
    def interruptible(self) -> bool:
        """Whether it can be interrupted. One that cannot is given no commands, and its calls have no timeout."""

    def room(self, size: int) -> bool:
        """Return whether it can take `size` bytes of arguments now; changes nothing. Asked before `start` and `further`; a
        local executor always has room, and need not be asked."""

    def start(self, invocation: Invocation, principal: Principal | None) -> None:
        """Begin to carry it out. Raise `NexusError` to refuse it.

        `principal` is the caller. None for a later attempt, except of a local executor: that gets the caller with the rights
        which the command has kept.
        """

    def further(self, invocation: Invocation, payload: Payload, more: bool) -> None:
        """Take a further part of the arguments, the last one unless `more`. Called only if it `streams`."""

    def interrupt(self, invocation: Invocation, reason: Reason) -> bool:
        """Tell the executor that the result is not wanted any more. Return whether it will still end the invocation itself.

        The caller's half relies on the answer only if the invocation is not over: it then waits for the executor to end it.
        """

    def named(self, invocation: Invocation) -> None:
        """A call has got a command id, by which its executor may refer to it from now on."""

    def release(self, invocation: Invocation) -> None:
        """The invocation is over: forget it."""
