"""Handlers: commands that the server itself executes, in the operator's Python functions.

They are named in the configuration (`[[commands]]`), by an application that Nexus is embedded in, and by installed packages
(entry point group `nexus.commands`; the entry point's name is the command's). A package's command gives way to one of the same
name. `nexus_tw.interfaces.plugins` has a handler's contract.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_tw.commands.invocations import HANDED_ON
from nexus_tw.commands.procedures import encrypted
from nexus_tw.commands.threads import Threads, as_json
from nexus_tw.interfaces.peers import Invocation, Reason
from nexus_tw.interfaces.plugins import Handler
from nexus_tw.model.budgets import Budget
from nexus_tw.model.errors import ERRORS, ConfigError, NexusError
from nexus_tw.model.names import is_name, is_reserved
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import ConfiguredCommand
from nexus_tw.runtime import plugins
from nexus_tw.runtime.guard import Guard

WHAT: Final = "a command handler"
PARAMETERS: Final = ("call",)
HANDLERS: Final = plugins.EntryPoints("nexus.commands", WHAT, PARAMETERS)
HELD: Final = 67108864  # bytes of the arguments of plain calls that the handlers of one realm are working on

_log = Logger()


def load(
    commands: Sequence[ConfiguredCommand], threads: Threads, own: Mapping[str, Handler] | None = None
) -> dict[str, Handler]:
    """Return the handler of each command. Raise a `ConfigError` that names an unusable setting or entry point.

    Handlers with `thread = true` are executed in `threads`. `own` are those of an application that Nexus is embedded in.
    """
    handlers: dict[str, Handler] = {}
    for name, function in (own or {}).items():
        where = f"commands[{name!r}]"
        check_free(where, name, handlers)
        handlers[name] = plugins.fitting(where, WHAT, function, PARAMETERS)
    for index, command in enumerate(commands):
        check_free(f"commands[{index}].name", command.name, handlers)
        where = f"commands[{index}].handler"
        handler = plugins.load(where, WHAT, command.handler, PARAMETERS)
        if command.thread and inspect.iscoroutinefunction(handler):
            raise ConfigError(
                f"{where}: {command.handler!r} is a coroutine function, which `thread = true` cannot execute: "
                "leave `thread` out, or write `def` without `async`"
            )
        handlers[command.name] = threads.wrap(handler) if command.thread else handler
    configured = frozenset(handlers)
    for entry in HANDLERS:
        if entry.name not in configured:
            where = f"entry point {entry.name!r} of {HANDLERS.group}"
            check_free(where, entry.name, handlers)
            handlers[entry.name] = HANDLERS.load(where, entry)
    return handlers


def check_free(where: str, name: str, taken: Container[str]) -> None:
    """Raise a `ConfigError` beginning with `where` if the operator's command may not have this name, or it is among `taken`."""
    if not is_name(name):
        raise ConfigError(f"{where}: {name!r} cannot name a command")
    if is_reserved(name):
        raise ConfigError(f"{where}: {name!r} is reserved to the server")
    if name in taken:
        raise ConfigError(f"{where}: {name!r} is there already")


class HandlerExecutor:
    """A handler as executor; provides `nexus_tw.interfaces.executors.Executor`."""

    __slots__ = ("_handler", "_held", "_runs")

    agent_id = None
    streams = False
    local = True
    interruptible = True

    def __init__(self, handler: Handler, held: Budget) -> None:
        """`held` counts the arguments of plain calls while handlers work on them; those of commands are counted already."""
        self._handler = handler
        self._held = held
        self._runs: dict[Invocation, HandlerRun] = {}

    def room(self, _size: int) -> bool:
        return True

    def start(self, invocation: Invocation, principal: Principal | None) -> None:
        """Start the handler. Raise `limit_exceeded` if the arguments exceed the subject's share or the budget."""
        assert principal is not None, "a local executor gets the caller"
        if invocation.options is not None:
            raise encrypted(invocation.procedure)
        account = principal.account
        if invocation.named:
            size = None
        else:
            size = invocation.payload.size
            self._held.take(account, size)

        def ended() -> None:
            del self._runs[invocation]
            if size is not None:
                self._held.give_back(account, size)

        run = self._runs[invocation] = HandlerRun(invocation, principal, ended)
        run.start(self._handler)

    def further(self, _invocation: Invocation, _payload: Payload, _more: bool) -> None:
        raise AssertionError("it does not stream")

    def interrupt(self, invocation: Invocation, reason: Reason) -> bool:
        run = self._runs.get(invocation)
        if run is not None:
            run.stop(reason)
        return False

    def named(self, _invocation: Invocation) -> None:
        pass

    def release(self, _invocation: Invocation) -> None:
        """Do nothing: the run is kept until the handler has returned, so that it can be interrupted."""


class HandlerRun:
    """One run of a handler, and its view of the command (`interfaces.plugins.Invoked`)."""

    def __init__(self, invocation: Invocation, caller: Principal, on_end: Callable[[], None]) -> None:
        """`on_end` is called once, as soon as the handler has ended."""
        self.command_id = invocation.command_id
        self.command = invocation.procedure
        self.attempt = invocation.attempt
        self.parameters: Any = msgspec.json.decode(invocation.payload.parameters)
        self.caller = caller
        invocation.payload = HANDED_ON
        self._invocation: Invocation | None = invocation  # until it ends
        self._on_end = on_end
        self._on_cancel: list[Callable[[str], None]] = []
        self._stopped: str | None = None
        self._deferred: Deferred[Any] | None = None

    def start(self, handler: Handler) -> None:
        """Call the handler. The invocation may end before this returns: with JSON, or with a code and a reason."""
        deferred: Deferred[Any] = maybeDeferred(handler, self)
        self._deferred = deferred
        deferred.addCallback(as_json)
        deferred.addErrback(self._failure)
        deferred.addCallback(self._end)
        # An error after this is a bug in Nexus: log it now, not at the next garbage collection.
        deferred.addErrback(lambda failure: _log.failure("Reporting on a command handler", failure=failure))
        if self._stopped is not None:
            # Stopped during its start (its progress made the caller cancel), before there was a Deferred to cancel.
            self._cancel()

    @property
    def cancelled(self) -> bool:
        """See `interfaces.plugins.Invoked`."""
        return self._stopped is not None

    def progress(self, data: Any) -> None:
        """See `interfaces.plugins.Invoked`. Ignored once it was stopped or has ended."""
        body = msgspec.json.encode(data)
        if self._stopped is None and self._invocation is not None:
            self._invocation.progress(Payload.of_value(body))

    def on_cancel(self, callback: Callable[[str], None]) -> None:
        """See `interfaces.plugins.Invoked`. Call back at once if it was stopped already."""
        if self._stopped is None:
            self._on_cancel.append(callback)
        else:
            callback(self._stopped)

    def stop(self, reason: Reason) -> None:
        """Tell the handler that no caller waits any more; its outcome is ignored."""
        self._stopped = reason
        guarded = Guard(__name__, f"Stopping a handler of {self.command} failed")
        callbacks, self._on_cancel = self._on_cancel, []
        for callback in callbacks:
            guarded(callback, reason)
        self._cancel()

    def _cancel(self) -> None:
        if self._deferred is not None:  # its canceller may be the handler's own
            Guard(__name__, f"Stopping a handler of {self.command} failed")(self._deferred.cancel)

    def _end(self, outcome: Raw | NexusError) -> None:
        invocation, self._invocation = self._invocation, None
        self._on_cancel.clear()
        self._on_end()
        if invocation is None or self._stopped is not None:
            return
        if isinstance(outcome, NexusError):
            invocation.error(outcome)
        else:
            invocation.result(Payload.of_value(bytes(outcome)))

    def _failure(self, failure: Failure) -> NexusError:
        error = failure.value
        if isinstance(error, NexusError) and error.code in ERRORS:
            return error
        if self._stopped is None:
            _log.failure("The handler of {command} failed", failure=failure, command=self.command)
        return NexusError("failed", failure.getErrorMessage() or type(error).__name__)
