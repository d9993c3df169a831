"""Long work in short pieces: for example the thousand consequences of one message or of one lost connection.

A bounded number of steps runs in each turn of the reactor, the rest in the following turns; several works take turns. So
nobody waits for the whole of it, and recipients can read between the steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

STEPS: Final = 64  # in one turn, of all works together

_log: Final = Logger()


class Spread:
    """Runs works step by step."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._left = STEPS
        self._turn: IDelayedCall | None = None
        self._works: deque[Iterator[object]] = deque()

    def __len__(self) -> int:
        """Return how many works have steps left."""
        return len(self._works)

    def work(self, steps: Iterator[object]) -> None:
        """Run these steps, in their order, the first of them before this returns if there is room in this turn. A step ends
        where the iterator yields; the state may have changed before the next one."""
        if not self._works:
            while self._left > 0:
                if not self._step(steps):
                    return
                self._left -= 1
                if self._turn is None:
                    self._turn = self._clock.callLater(0, self._next)
        self._works.append(steps)

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Run one more step: this call."""
        self.work(_once(function, arguments))

    def finish(self) -> None:
        """Run all remaining steps at once."""
        while self._works:
            self._rotate()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _next(self) -> None:
        self._left = STEPS
        self._turn = None
        while self._works and self._left > 0:
            self._left -= 1
            self._rotate()
        self._turn = self._clock.callLater(0, self._next) if self._left < STEPS else None

    def _rotate(self) -> None:
        steps = self._works.popleft()
        if self._step(steps):
            self._works.append(steps)

    def _step(self, steps: Iterator[object]) -> bool:
        """Run one step. Return whether there may be more; a work that raised has none."""
        try:
            next(steps)
        except StopIteration:
            return False
        except Exception:
            _log.failure("A piece of long work failed")
            return False
        return True


def _once(function: Callable[..., object], arguments: tuple[Any, ...]) -> Iterator[None]:
    function(*arguments)
    yield
