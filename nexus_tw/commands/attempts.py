"""Attempts: what an executor says of an execution, as the caller's half of its invocation hears it."""

from __future__ import annotations

from typing import Protocol

from nexus_tw.commands.task import Execution
from nexus_tw.model.errors import UNSUPPORTED, NexusError
from nexus_tw.model.payloads import Options, Payload


class Attempted(Protocol):
    """Receives what becomes of the present attempt of an execution."""

    def attempt_progressed(self, execution: Execution, payload: Payload) -> None: ...

    def attempt_completed(self, execution: Execution, payload: Payload) -> None: ...

    def attempt_failed(self, execution: Execution, error: NexusError) -> None: ...

    def attempt_overran(self, execution: Execution, alone: bool) -> None: ...

    def attempt_lost(self, execution: Execution) -> None: ...

    def attempt_returned(self, execution: Execution, payload: Payload, busy: bool) -> None: ...


class Attempt:
    """One execution as `nexus_tw.commands.invocations.CallersHalf` of its invocations."""

    __slots__ = ("_attempted", "_execution")

    def __init__(self, attempted: Attempted, execution: Execution) -> None:
        self._attempted = attempted
        self._execution = execution

    def progressed(self, payload: Payload, options: Options) -> None:
        if options is None:  # a JSON client could not open an encrypted payload
            self._attempted.attempt_progressed(self._execution, payload)

    def completed(self, payload: Payload, options: Options) -> None:
        if options is None:
            self._attempted.attempt_completed(self._execution, payload)
        else:
            self.failed(UNSUPPORTED.error("the result is an encrypted payload, which is passed on in WAMP only"))

    def failed(self, error: NexusError) -> None:
        self._attempted.attempt_failed(self._execution, error)

    def lost(self) -> None:
        self._attempted.attempt_lost(self._execution)

    @property
    def retried(self) -> bool:
        execution = self._execution
        return execution.attempt <= execution.command.retries

    def returned(self, payload: Payload, busy: bool) -> None:
        self._attempted.attempt_returned(self._execution, payload, busy)

    def overran(self, alone: bool) -> None:
        self._attempted.attempt_overran(self._execution, alone)
