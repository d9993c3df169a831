"""The end of a reactor turn, when the output gathered during the turn is sent together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from nexus_tw.runtime.guard import Guard

_guarded: Final = Guard(__name__, "Something that was left for the end of a turn failed")


class Turn:
    """Calls functions once, after all other work of the reactor in this turn, in the order in which they were added."""

    __slots__ = ("_clock", "_waiting")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: list[Callable[[], None]] = []

    def add(self, callback: Callable[[], None]) -> None:
        if not self._waiting:
            self._clock.callLater(0, self._run)
        self._waiting.append(callback)

    def _run(self) -> None:
        _guarded.each(self._waiting)  # functions added meanwhile still belong to this turn
        self._waiting = []
