"""Durations, counted in buckets that are 2 % wide: any number of them in little memory."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

_LEAST: Final = 1e-6  # s; whatever is shorter is in the first bucket
_WIDTH: Final = math.log(1.02)
PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9)


class Histogram:
    """Counts of durations (s)."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        self._buckets[int(math.log(max(seconds, _LEAST) / _LEAST) / _WIDTH)] += 1
        self.count += 1
        self.longest = max(self.longest, seconds)

    def percentile(self, percent: float) -> float:
        """Return a duration (s) that so many percent of all do not exceed, 2 % too long at most; 0 if there is none."""
        wanted, seen = self.count * percent / 100, 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(self.longest, _LEAST * math.exp((bucket + 1) * _WIDTH))
        return 0.0

    def milliseconds(self) -> dict[str, float]:
        """Return the usual percentiles and the longest in ms, by name: `p50`, `p99.9`, `max`."""
        found = {f"p{percent:g}": round(self.percentile(percent) * 1000, 3) for percent in PERCENTILES}
        return found | {"max": round(self.longest * 1000, 3)}
