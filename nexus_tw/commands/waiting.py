"""Executions that wait for an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands.task import Execution
from nexus_tw.model.multimap import Multimap
from nexus_tw.model.names import Pattern
from nexus_tw.runtime.spread import Spread

PAUSE: Final = 0.1  # s until it is checked again whether a slow agent has room for its waiting executions

Key = tuple[str, str | None]  # command, and the agent that must execute it


class Waiting:
    """Queues of executions, one for each command and agent; each is retried when its executor may have room."""

    def __init__(self, clock: IReactorTime, spread: Spread, serve: Callable[[Key, Execution], bool]) -> None:
        """`serve` hands over the first execution of a queue, and returns whether it did."""
        self._clock = clock
        self._spread = spread
        self._serve = serve
        self._queues: Multimap[Key, Execution] = Multimap()
        self._stalled: set[Key] = set()  # queues whose executor has no room

    def __len__(self) -> int:
        return len(self._queues)

    def add(self, execution: Execution) -> None:
        self._queues.add(_key(execution), execution)

    def remove(self, execution: Execution) -> None:
        self._queues.remove(_key(execution), execution)

    def wake(self, patterns: Sequence[Pattern], agent: str) -> None:
        """Retry the executions that wait for these patterns, which the agent has registered, in the next reactor turn."""
        queues = self._queues
        keys: list[Key] = []
        for pattern in patterns if queues else ():
            if pattern.exact:
                keys += (key for key in ((pattern.text, agent), (pattern.text, None)) if key in queues)
            else:
                keys += (key for key in queues if key[1] is None and pattern.matches(key[0]))
        if keys:
            self._clock.callLater(0, self._try, keys)

    def retry(self, execution: Execution) -> None:
        """Retry the queue of this execution in the next reactor turn."""
        self._clock.callLater(0, self._try, [_key(execution)])

    def stall(self, execution: Execution) -> None:
        """Retry the queue of this execution after a while: its executor has no room."""
        key = _key(execution)
        if key not in self._stalled:
            self._stalled.add(key)
            self._clock.callLater(PAUSE, self._resume, key)

    def _resume(self, key: Key) -> None:
        self._stalled.remove(key)
        self._try([key])

    def _try(self, keys: list[Key]) -> None:
        self._spread.work(self._steps(keys))

    def _steps(self, keys: list[Key]) -> Iterator[None]:
        for key in keys:
            while (execution := self._queues.first(key)) and self._serve(key, execution):
                yield


def _key(execution: Execution) -> Key:
    return execution.command.name, execution.target
