"""Requests for positions to be read: equal positions are read once, and each request for several gets one answer, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from nexus_tw.model.errors import NexusError
from nexus_tw.model.positions import Missed, Position
from nexus_tw.runtime.guard import Guard

MAX_WAITING: Final = 65536  # positions whose reading has not begun

Request = tuple[str, Position]

_guarded: Final = Guard(__name__, "An answer of the history could not be handled")


class Answers:
    """The answers to one request for several positions."""

    def __init__(self, count: int, done: Callable[[list[Missed] | NexusError], None]) -> None:
        self._answers: list[Missed | None] = [None] * count
        self._left = count
        self._done = done

    def take(self, place: int, missed: Missed | NexusError) -> None:
        if not self._left:
            return
        if isinstance(missed, NexusError):
            self._left = 0
            self._done(missed)
            return
        self._answers[place] = missed
        self._left -= 1
        if not self._left:
            self._done([answer for answer in self._answers if answer is not None])


class Requests:
    """Requests whose reading has not begun, oldest first."""

    def __init__(self) -> None:
        self._waiting: dict[Request, list[Callable[[Missed | NexusError], None]]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, requests: Sequence[Request], done: Callable[[list[Missed] | NexusError], None]) -> None:
        """Have `done` called with the events after each of these positions, or with the first error."""
        if not requests:
            done([])
            return
        if len(self._waiting) + len(requests) > MAX_WAITING:
            done(NexusError("bus_unavailable", f"The event bus is behind: more than {MAX_WAITING} positions wait to be read"))
            return
        answers = Answers(len(requests), done)
        for place, request in enumerate(requests):
            self._waiting.setdefault(request, []).append(partial(answers.take, place))

    def next(self) -> tuple[Request, Callable[[Missed | NexusError], None]]:
        """Remove the oldest request; the returned function is to be called with its answer."""
        request = next(iter(self._waiting))
        return request, partial(_tell, self._waiting.pop(request))

    def fail(self, error: NexusError) -> None:
        """Answer all with this error."""
        waiting, self._waiting = self._waiting, {}
        for waiters in waiting.values():
            _tell(waiters, error)


def _tell(waiters: Sequence[Callable[[Missed | NexusError], None]], missed: Missed | NexusError) -> None:
    for waiter in waiters:
        _guarded(waiter, missed)
