"""The guard: calls functions of other parts, so that a failure of one affects no other.

Use it wherever a list of waiters, listeners or peers is walked, and wherever a function of another part is called in the
middle of one's own work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.logger import Logger


class Guard:
    """Calls functions and logs what they raise."""

    __slots__ = ("_log", "_what")

    def __init__(self, namespace: str, what: str) -> None:
        """Log under `namespace`, the module that does this work; `what` says in the log which part failed."""
        self._log = Logger(namespace=namespace)
        self._what = what

    def each(self, functions: Sequence[Callable[[], object]]) -> None:
        """Call all functions in order, including those appended meanwhile."""
        for function in functions:
            try:
                function()
            except Exception:
                self._log.failure("{what}", what=self._what)

    def failed(self) -> None:
        """Log the exception that is being handled; for loops over so many that a call more for each would be felt."""
        self._log.failure("{what}", what=self._what)

    def __call__(self, function: Callable[..., object], *arguments: Any) -> bool:
        """Call the function. Return whether it returned; log the exception if it raised one."""
        try:
            function(*arguments)
        except Exception:
            self._log.failure("{what}", what=self._what)
            return False
        return True
