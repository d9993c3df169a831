"""Calls of the server itself to procedures of the realm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nexus_tw.commands.arguments import values_of
from nexus_tw.commands.calls import Calls
from nexus_tw.model.errors import NexusError
from nexus_tw.model.payloads import Options, Payload
from nexus_tw.model.settings import Limits


class Questions:
    """Calls procedures on behalf of the server, each for at most `limits.authorizer` seconds."""

    def __init__(self, calls: Calls, limits: Limits) -> None:
        self._calls = calls
        self._limits = limits

    def ask(self, procedure: str, args: list[Any], done: Callable[[Any], None]) -> None:
        """Call the procedure; `done` is called once, with its first positional result or a `NexusError`."""
        try:
            self._calls.ask(procedure, args, self._limits.authorizer, _Reply(done))
        except NexusError as error:
            done(error)


class _Reply:
    """Receives the answer to one call."""

    def __init__(self, done: Callable[[Any], None]) -> None:
        self._done = done

    def progress(self, payload: Payload, options: Options) -> None:
        pass

    def result(self, payload: Payload, _options: Options) -> None:
        args, _ = values_of(payload)
        self._done(args[0] if args else None)

    def error(self, error: NexusError) -> None:
        self._done(error)
