"""The audit trail: what becomes of commands, for people. No command waits for it.

A ledger in the store adds each line with what it writes. Otherwise, and while the store fails, lines are gathered here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from nexus_tw.commands.states import State
from nexus_tw.commands.task import CommandRecord
from nexus_tw.interfaces.ledger import AuditLine
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.runtime.plugin_runner import PluginRunner
from nexus_tw.runtime.walltime import wall_of
from nexus_tw.telemetry.outages import Outage

GATHER: Final = 0.2  # s for which lines are gathered
AGAIN: Final = 5.0  # s until the store is tried again after a failure
MOST: Final = 1024  # lines in one transaction
SHOWN: Final = 10_000  # lines of one command in an answer
WAITING: Final = 65536  # lines that wait for the store; further ones are dropped


class Line(Struct, rename="camel", omit_defaults=True, gc=False):
    """What is written of a state: of the whole command, if there is no attempt. `node` is that of the executor."""

    command: str
    caller: str
    status: State
    agent_id: str | None = None
    attempt: int = 0
    node: str = ""
    code: str = ""


_encode: Final = msgspec.json.Encoder().encode


class Audit:
    """Writes lines in batches. While the store fails, lines wait within a bound; those beyond are counted and dropped."""

    def __init__(self, store: Any, guest: PluginRunner, realm: str, clock: IReactorTime, metrics: Metrics) -> None:
        """`store` provides `IAudit`; `guest` runs its code."""
        self._store = store
        self._guest = guest
        self._realm = realm
        self._clock = clock
        self._wall = wall_of(clock)
        self._metrics = metrics
        self._lines: list[AuditLine] = []
        self._timer: IDelayedCall | None = None
        self._under_way = False
        self._closed = False
        self._outage = Outage("Writing the audit trail of commands")

    @staticmethod
    def line(command: CommandRecord, state: State, agent_id: str | None, attempt: int, node: str, code: str) -> bytes:
        """Return the line which says that an execution of the command, or the command, has entered a state."""
        return _encode(Line(command.name, command.caller.authid, state, agent_id, attempt, node, code))

    def note(self, command_id: str, line: bytes) -> None:
        """Add a line soon."""
        if self._closed:
            return
        if len(self._lines) >= WAITING:
            self._metrics.audit_dropped += 1
            return
        self._lines.append(AuditLine(self._realm, command_id, int(self._wall() * 1000), line))
        if self._timer is None and not self._under_way:
            self._timer = self._clock.callLater(GATHER, self._flush)

    def trail(self, command_id: str, done: Callable[[list[tuple[int, bytes]] | NexusError], None]) -> None:
        """Pass to `done` the lines about a command that the store has: times and JSON."""
        self._hurry()  # what has been gathered goes first
        found = self._guest.run(self._store.trail, self._realm, command_id, SHOWN)
        found.addCallbacks(
            lambda lines: done([(line.at, line.line) for line in lines]),
            lambda failure: done(NexusError("store_unavailable", failure.getErrorMessage())),
        )

    def stop(self) -> None:
        """Write what is left, and nothing after that: the store is about to be closed."""
        self._hurry()
        self._closed = True

    def _hurry(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines and not self._under_way:
            self._flush()

    def _flush(self) -> None:
        self._timer = None
        lines, self._lines = self._lines[:MOST], self._lines[MOST:]
        self._under_way = True

        def written(_none: None) -> None:
            self._under_way = False
            self._outage.works()
            if self._lines and not self._closed:
                self._flush()

        def failed(failure: Failure) -> None:
            self._under_way = False
            if self._closed:
                self._metrics.audit_dropped += len(lines)
                return
            self._outage.fails(failure.getErrorMessage())
            kept = lines[: max(0, WAITING - len(self._lines))]
            self._metrics.audit_dropped += len(lines) - len(kept)
            self._lines = [*kept, *self._lines]
            self._timer = self._clock.callLater(AGAIN, self._flush)

        self._guest.run(self._store.note, lines).addCallbacks(written, failed)
