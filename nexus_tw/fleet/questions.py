"""Questions to other nodes that wait for their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nexus_tw.interfaces.fleet import PATIENCE
from nexus_tw.runtime.guard import Guard

MAX_OPEN: Final = 16384  # questions that wait

Done = Callable[[Mapping[str, bytes]], None]

_guarded: Final = Guard(__name__, "The answers of the fleet could not be handled")


class _Question:
    __slots__ = ("answers", "done", "missing", "timer")

    def __init__(self, missing: set[str], done: Done, timer: IDelayedCall) -> None:
        self.missing = missing
        self.done = done
        self.timer = timer
        self.answers: dict[str, bytes] = {}


class Questions:
    """Open questions by number."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._open: dict[int, _Question] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._open)

    def put(self, nodes: Iterable[str], done: Done) -> int | None:
        """Return the number of a new question to these nodes; None if it has ended at once, since nobody is asked or too many
        questions wait."""
        missing = set(nodes)
        if not missing or len(self._open) >= MAX_OPEN:
            _guarded(done, {})
            return None
        self._number += 1
        timer = self._clock.callLater(PATIENCE, self._end, self._number)
        self._open[self._number] = _Question(missing, done, timer)
        return self._number

    def answered(self, number: int, node: str, answer: bytes) -> None:
        """Take an answer; one that nobody waits for is dropped."""
        question = self._open.get(number)
        if question is not None and node in question.missing:
            question.answers[node] = answer
            self._without(number, question, node)

    def gone(self, node: str) -> None:
        """No answers of this node will come."""
        for number, question in list(self._open.items()):
            self._without(number, question, node)

    def stop(self) -> None:
        """End all questions with the answers that are there."""
        for number in list(self._open):
            self._end(number)

    def _without(self, number: int, question: _Question, node: str) -> None:
        question.missing.discard(node)
        if not question.missing:
            self._end(number)

    def _end(self, number: int) -> None:
        question = self._open.pop(number, None)
        if question is None:
            return
        if question.timer.active():
            question.timer.cancel()
        _guarded(question.done, question.answers)
