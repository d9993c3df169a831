"""Rate limiting by bytes: the input of all connections and requests of a subject counts together.

All accepted input is passed on, stored or answered, so a subject that sends too much is read later. Others are not affected.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IReactorTime

from nexus_tw.model.settings import Limits
from nexus_tw.transport.bucket import TokenBucket

GRAIN: Final = 4096  # bytes of one connection that are counted at once
FEW: Final = 1024  # subjects whose bucket is kept without checking whether it is full again


class Rates:
    """Counts the bytes that each subject has sent recently, over all transports."""

    def __init__(self, clock: IReactorTime, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._buckets: dict[str, TokenBucket] = {}
        self._most = FEW

    def __len__(self) -> int:
        return len(self._buckets)

    def spend(self, account: str, size: int) -> float:
        """Count `size` bytes that a subject sent, by its account (`Principal.account`). Return the seconds for which the
        connection should not be read: 0 within `limits.subject_bytes_rate` and its burst of one second's worth."""
        rate = self._limits.subject_bytes_rate
        if not rate:
            return 0.0
        now = self._clock.seconds()
        bucket = self._buckets.get(account)
        if bucket is None or bucket.rate != rate:
            if len(self._buckets) >= self._most:
                self._forget(now)
            bucket = self._buckets[account] = TokenBucket(rate, now)
        return bucket.spend(size, now)

    def _forget(self, now: float) -> None:
        # A full bucket is equivalent to a new one.
        for bucket in self._buckets.values():
            bucket.spend(0, now)
        self._buckets = {account: bucket for account, bucket in self._buckets.items() if bucket.slack < 1}
        self._most = max(FEW, 2 * len(self._buckets))
