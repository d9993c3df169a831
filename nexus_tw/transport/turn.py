"""The end of a reactor turn: what was gathered in it leaves together."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger


class Turn:
    """Calls back once, after everything the reactor had to do in this turn, those called back first that were first to ask."""

    __slots__ = ("_clock", "_waiting")

    _log = Logger(namespace="nexus.turn")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: list[Callable[[], None]] = []

    def add(self, callback: Callable[[], None]) -> None:
        if not self._waiting:
            self._clock.callLater(0, self._run)
        self._waiting.append(callback)

    def _run(self) -> None:
        waiting = self._waiting
        # What is added meanwhile still belongs to this turn.
        place = 0
        while place < len(waiting):
            try:
                waiting[place]()
            except Exception:  # the others still have their turn, and so has everything after this one
                self._log.failure("Something that was left for the end of a turn failed")
            place += 1
        self._waiting = []
