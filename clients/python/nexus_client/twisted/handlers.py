"""The handlers of commands, and those that run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_client.core.effects import Invoke
from nexus_client.errors import CommandFailed
from nexus_client.parameters import Parameters
from nexus_client.twisted.results import deferred


class Call:
    """One execution of a command, the first argument of its handler.

    `caller` is the caller's subject, `agent` the agent that was called if the server named it, `attempt` counts from 1.
    `remaining()` are the seconds until nobody waits for the result any more.
    """

    def __init__(self, invoke: Invoke, progress: Callable[[int, Any], None], now: Callable[[], float]) -> None:
        self._number = invoke.execution
        self._progress = progress
        self._deadline = invoke.deadline
        self._now = now
        self.command = invoke.command
        self.caller = invoke.caller
        self.agent = invoke.agent
        self.attempt = invoke.attempt

    def progress(self, data: Any = None) -> None:
        """Tell the caller how far it is: any JSON. Raise `TypeError` for anything else."""
        self._progress(self._number, data)

    def remaining(self) -> float:
        return max(0.0, self._deadline - self._now())


class Handlers:
    """Run a handler for each invocation; `succeed` and `fail` take its end."""

    _log = Logger("nexus_client")

    def __init__(
        self,
        succeed: Callable[[int, Any], None],
        fail: Callable[[int, str], None],
        progress: Callable[[int, Any], None],
        now: Callable[[], float],
    ) -> None:
        self._succeed = succeed
        self._fail = fail
        self._progress = progress
        self._now = now
        self._handlers: dict[str, tuple[Callable[..., Any], Parameters]] = {}
        self._running: dict[int, Deferred[Any]] = {}

    def add(self, command: str, handler: Callable[..., Any]) -> None:
        self._handlers[command] = handler, Parameters(handler)

    def invoke(self, invoke: Invoke) -> None:
        handler, parameters = self._handlers[invoke.command]
        call = Call(invoke, self._progress, self._now)

        def run() -> Any:
            return handler(call, **parameters.decode(invoke.parameters))

        running = self._running[invoke.execution] = deferred(run)
        running.addCallback(lambda result: self._succeed(invoke.execution, result))
        running.addErrback(lambda failure: self._failed(invoke, failure))
        running.addBoth(lambda _: self._over(invoke.execution))

    def cancel(self, execution: int) -> None:
        if execution in self._running:
            self._running[execution].cancel()

    def _over(self, execution: int) -> None:
        del self._running[execution]

    def _failed(self, invoke: Invoke, failure: Failure) -> None:
        if failure.check(CommandFailed):
            self._fail(invoke.execution, str(failure.value))
        elif failure.check(CancelledError):
            self._fail(invoke.execution, "cancelled")
        else:
            # The caller is not told what the exception says: that may hold a secret.
            self._log.failure("the handler of {command} failed", failure, command=invoke.command)
            self._fail(invoke.execution, f"internal error in handler {invoke.command}")
