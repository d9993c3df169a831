"""What functions of the application return: a value, a Deferred or a coroutine; and Deferreds for those who wait."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

T = TypeVar("T")


def deferred(function: Callable[..., Any], *arguments: Any, **named: Any) -> Deferred[Any]:
    """Call the function and return a Deferred of its result, whatever kind of function it is."""
    try:
        result = function(*arguments, **named)
    except Exception:
        return fail(Failure())
    if isinstance(result, Deferred):
        return result
    if inspect.iscoroutine(result):
        return Deferred.fromCoroutine(result)
    return succeed(result)


class Outcome(Generic[T]):
    """Something that happens once, for any number of those who wait. A failure that nobody waits for is no error."""

    def __init__(self) -> None:
        self._waiting: list[Deferred[T]] = []
        self._result: list[T | Exception] = []

    @property
    def happened(self) -> bool:
        return bool(self._result)

    def happen(self, result: T | Exception) -> None:
        """Tell those who wait, and those who ask later; only the first time counts."""
        if not self._result:
            self._result.append(result)
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                self._tell(each, result)

    def wait(self) -> Deferred[T]:
        """Return a new Deferred, which may be cancelled."""
        waiting: Deferred[T] = Deferred(self._forget)
        if self._result:
            self._tell(waiting, self._result[0])
        else:
            self._waiting.append(waiting)
        return waiting

    def _forget(self, waiting: Deferred[T]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    @staticmethod
    def _tell(waiting: Deferred[T], result: T | Exception) -> None:
        if isinstance(result, Exception):
            waiting.errback(Failure(result))
        else:
            waiting.callback(result)
