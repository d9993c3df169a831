"""Handlers: commands that the server executes itself, in Python of its user's.

They come from the configuration (`[[commands]]`) and from installed packages (entry point group `nexus.commands`, where the
entry point's name is the command); what the configuration names goes first. The contract of a handler is in `interfaces`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, Final

import msgspec
from msgspec import Raw
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_tw.commands.threads import Threads, as_json
from nexus_tw.interfaces.peers import Reason
from nexus_tw.interfaces.plugins import Handler
from nexus_tw.model.errors import ERRORS, ConfigError, NexusError
from nexus_tw.model.names import is_name, is_reserved
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Command
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.plugins import load as load_function
from nexus_tw.runtime.plugins import load_entry

GROUP: Final = "nexus.commands"
WHAT: Final = "a command handler"
PARAMETERS: Final = ("call",)

_log = Logger()


def load(commands: Sequence[Command], threads: Threads) -> dict[str, Handler]:
    """The handler of each command; raises `ConfigError` naming the setting or entry point that cannot be used.

    Those with `thread = true` are executed in `threads`.
    """
    handlers: dict[str, Handler] = {}
    for index, command in enumerate(commands):
        _check_name(f"commands[{index}].name", command.name, handlers)
        where = f"commands[{index}].handler"
        handler = load_function(where, WHAT, command.handler, PARAMETERS)
        if command.thread and inspect.iscoroutinefunction(handler):
            raise ConfigError(
                f"{where}: {command.handler!r} is a coroutine function, which `thread = true` cannot execute: "
                "leave `thread` out, or write `def` without `async`"
            )
        handlers[command.name] = threads.wrap(handler) if command.thread else handler
    configured = frozenset(handlers)
    for entry in entry_points(group=GROUP):
        if entry.name not in configured:
            where = f"entry point {entry.name!r} of {GROUP}"
            _check_name(where, entry.name, handlers)
            handlers[entry.name] = load_entry(where, WHAT, entry, PARAMETERS)
    return handlers


def _check_name(where: str, name: str, taken: dict[str, Handler]) -> None:
    if not is_name(name):
        raise ConfigError(f"{where}: {name!r} is no command name")
    if is_reserved(name):
        raise ConfigError(f"{where}: {name!r} is reserved to the server")
    if name in taken:
        raise ConfigError(f"{where}: {name!r} is given twice")


class HandlerRun:
    """One run of a handler, and what it gets to see of the command (`interfaces.Invoked`)."""

    attempt = 1  # a handler is lost only together with the server

    def __init__(
        self,
        command_id: str,
        command: str,
        parameters: Any,
        caller: Principal,
        on_progress: Callable[[HandlerRun, Raw], None],
        on_end: Callable[[HandlerRun, Raw | NexusError], None],
    ) -> None:
        self.command_id = command_id
        self.command = command
        self.parameters = parameters
        self.caller = caller
        # Until it ends: whoever waits refers to the run.
        self._on_progress: Callable[[HandlerRun, Raw], None] | None = on_progress
        self._on_end: Callable[[HandlerRun, Raw | NexusError], None] | None = on_end
        self._on_cancel: list[Callable[[str], None]] = []
        self._stopped: str | None = None
        self._deferred: Deferred[Any] | None = None

    def start(self, handler: Handler) -> None:
        """Calls the handler; `on_end` is called once, perhaps before this returns: with JSON, or with a code and a reason."""
        deferred: Deferred[Any] = maybeDeferred(handler, self)
        self._deferred = deferred
        deferred.addCallback(as_json)
        deferred.addErrback(self._failure)
        deferred.addCallback(self._end)
        # Whatever still goes wrong is a fault of ours: it must be seen in the log, not when memory is next tidied up.
        deferred.addErrback(lambda failure: _log.failure("Reporting on a command handler", failure=failure))
        if self._stopped is not None:
            # Stopped by its own doing (say, its progress made the caller cancel) before there was anything to cancel.
            self._cancel()

    @property
    def cancelled(self) -> bool:
        """See `interfaces.Invoked`."""
        return self._stopped is not None

    def progress(self, data: Any) -> None:
        """See `interfaces.Invoked`; raises `TypeError` or `ValueError` for what is no JSON. Ignored once it was stopped or has
        ended."""
        body = Raw(msgspec.json.encode(data))
        if self._stopped is None and self._on_progress is not None:
            self._on_progress(self, body)

    def on_cancel(self, callback: Callable[[str], None]) -> None:
        """See `interfaces.Invoked`; calls back at once when that has happened already."""
        if self._stopped is None:
            self._on_cancel.append(callback)
        else:
            callback(self._stopped)

    def end(self) -> None:
        """Whoever waits has been told to wait no more; the outcome is still reported, for whoever cares."""

    def stop(self, reason: Reason) -> None:
        """Tells the handler that nobody waits any more."""
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
        on_end, self._on_end = self._on_end, None
        self._on_progress = None
        self._on_cancel.clear()
        if on_end is not None:
            on_end(self, outcome)

    def _failure(self, failure: Failure) -> NexusError:
        error = failure.value
        if isinstance(error, NexusError) and error.code in ERRORS:
            return error
        if self._stopped is None:
            _log.failure("The handler of {command} failed", failure=failure, command=self.command)
        return NexusError("failed", failure.getErrorMessage() or type(error).__name__)
