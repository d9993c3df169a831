"""A token bucket."""

from __future__ import annotations


class TokenBucket:
    """Allows `rate` units a second and one second's worth at once. It can be overdrawn: the debt is time to wait."""

    __slots__ = ("_level", "_when", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._level = rate
        self._when = now

    def spend(self, units: float, now: float) -> float:
        """Take units out. Return the seconds until the bucket is out of debt, 0 if it has none."""
        level = min(self.rate, self._level + max(0.0, now - self._when) * self.rate) - units
        self._level = level
        self._when = now
        return -level / self.rate if level < 0 else 0.0

    @property
    def slack(self) -> float:
        """How full it was after the last `spend`, from 0 (or less) to 1."""
        return self._level / self.rate
