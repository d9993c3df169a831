"""What one receiver got of one sender's numbered messages: what is missing, came twice, or out of order."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

MISSING: Final = 100_000  # numbers that are remembered; further ones count as lost for good


class Ledger:
    """Numbers from 0 on, each of which should come once, in their order."""

    def __init__(self) -> None:
        self._next = 0
        self._missing: set[int] = set()
        self._given_up = 0
        self.received = 0
        self.repeated = 0
        self.reordered = 0

    def enter(self, number: int) -> None:
        """Take note of a number that has come."""
        if number == self._next:
            self._next += 1
            self.received += 1
        elif number > self._next:
            room = MISSING - len(self._missing)
            self._missing.update(range(self._next, min(number, self._next + room)))
            self._given_up += max(0, number - self._next - room)
            self._next = number + 1
            self.received += 1
        elif number in self._missing:
            self._missing.remove(number)
            self.received += 1
            self.reordered += 1
        else:
            self.repeated += 1

    def lost(self, sent: int, excused: Collection[int] = ()) -> int:
        """Return how many of the numbers below `sent` have not come, without the `excused` ones."""
        tail = max(0, sent - self._next) - sum(self._next <= number < sent for number in excused)
        return len(self._missing.difference(excused)) + self._given_up + tail
