"""Attempts to connect after a fault, counted by the second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """`busiest` is the largest number in a second, counted from the first attempt; `mean` that of all up to the last one."""

    attempts: int
    seconds: float
    busiest: int
    mean: float

    @property
    def ratio(self) -> float:
        return self.busiest / self.mean


def count(times: Iterable[float]) -> Counts:
    """Count attempts, given the time of each."""
    ordered = sorted(times)
    first, last = ordered[0], ordered[-1]
    seconds = max(last - first, 1.0)
    by_second = Counter(int(time - first) for time in ordered)
    return Counts(len(ordered), last - first, max(by_second.values()), len(ordered) / seconds)
