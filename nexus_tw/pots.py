"""Pots: what is there for all subjects together, and the share of it that one subject may take.

Everything that outlives a connection or is common to all of them is taken out of a pot, so that one subject cannot use up
what the others need.
"""

from __future__ import annotations

from nexus_tw.errors import NexusError
from nexus_tw.metrics import Metrics


class Pot:
    """Counts what subjects have taken of one bounded resource."""

    __slots__ = ("_metrics", "_name", "_share", "_size", "_taken", "taken")

    def __init__(self, name: str, size: int, share: float, metrics: Metrics) -> None:
        """`name` stands in errors and metrics; `size` bounds all subjects together (0: no limit), `share` is one's part of it.

        One unit can always be taken by a subject that has none, as long as the pot has it.
        """
        self._name = name
        self._metrics = metrics
        self.resize(size, share)
        self._taken: dict[str, int] = {}
        self.taken = 0

    def resize(self, size: int, share: float) -> None:
        """From now on there is so much. What was taken stays taken."""
        self._size = size
        self._share = max(1, int(size * share))

    def spills(self, subject: str, amount: int = 0) -> bool:
        """Return whether the subject would have more than its share with `amount` more."""
        return self._size > 0 and self._taken.get(subject, 0) + amount > self._share

    def full(self, amount: int = 0) -> bool:
        """Return whether all of them would have more than there is with `amount` more."""
        return self._size > 0 and self.taken + amount > self._size

    def count(self, subject: str, amount: int) -> None:
        """Count what the subject has already, whether there is room for it or not."""
        self._taken[subject] = self._taken.get(subject, 0) + amount
        self.taken += amount

    def take(self, subject: str, amount: int = 1) -> None:
        """Take `amount` for the subject. Raise `limit_exceeded` if it would exceed its share, or all of them the pot."""
        if self.spills(subject, amount):
            self._metrics.shares_refused[self._name] += 1
            raise NexusError("limit_exceeded", f"More than {self._share} {self._name} of one subject")
        if self.full(amount):
            self._metrics.shares_refused[self._name] += 1
            raise NexusError("limit_exceeded", f"More than {self._size} {self._name} of all subjects")
        self.count(subject, amount)

    def give_back(self, subject: str, amount: int = 1) -> None:
        """Return what was taken before. Raise `ValueError` if the subject has not taken so much."""
        left = self._taken.get(subject, 0) - amount
        if left < 0:
            raise ValueError(f"{self._name}: {amount} given back, {left + amount} taken")
        if left:
            self._taken[subject] = left
        else:
            self._taken.pop(subject, None)
        self.taken -= amount

    def of(self, subject: str) -> int:
        """Return how much the subject has taken."""
        return self._taken.get(subject, 0)
