"""Deadlines of executions: the times until which they wait for an executor, and for its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands.states import State
from nexus_tw.commands.task import CommandRecord, Execution
from nexus_tw.runtime.spread import Spread


class Deadlines:
    """Sets timers, and reports executions whose time is over."""

    __slots__ = ("_clock", "_late", "_spread")

    def __init__(self, clock: IReactorTime, spread: Spread, late: Callable[[Execution], None]) -> None:
        self._clock = clock
        self._spread = spread
        self._late = late

    def set(self, execution: Execution, seconds: float) -> None:
        """Report the execution after `seconds`, unless `cancel` is called before."""
        execution.timer = self._clock.callLater(seconds, _overdue, self, execution)

    def cancel(self, execution: Execution) -> None:
        timer, execution.timer = execution.timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def await_expiry(self, command: CommandRecord, now: float) -> None:
        """Report the waiting executions when the command expires; all targets share one timer."""
        if command.timer is None:
            command.timer = self._clock.callLater(command.expires - now, self._expired, command)

    def _expired(self, command: CommandRecord) -> None:
        command.timer = None
        self._spread.work(self._expire(command))

    def _expire(self, command: CommandRecord) -> Iterator[None]:
        for execution in command.executions:
            if execution.state is State.QUEUED and execution.timer is None:
                self._late(execution)
                yield

    def overdue(self, execution: Execution) -> None:
        if execution.timer is not None and not execution.timer.active():  # nothing has happened to it since
            self._late(execution)


def _overdue(deadlines: Deadlines, execution: Execution) -> None:
    """Report the execution. This is no method, since each of thousands of timers would keep a bound method."""
    deadlines._spread.call(deadlines.overdue, execution)
