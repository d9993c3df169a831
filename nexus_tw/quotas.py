"""Quotas: how fast a subject may have telemetry stored, and how much of it there may be.

What a subject has stored is counted in slices of the time for which telemetry is kept, and forgotten a slice at a time, as the
store forgets it. A process counts what it has stored itself since it was started.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from nexus_tw.errors import NexusError
from nexus_tw.metrics import Metrics
from nexus_tw.settings import Limits

BURST: Final = 10.0  # s for which a subject that rested may store as much at once: agents send what they held back
SLICES: Final = 30  # into which the time is divided
SUBJECTS: Final = 65536  # that are remembered, those that stored something last


class _Account:
    """The stored telemetry of one subject."""

    __slots__ = ("kept", "level", "slices", "when")

    def __init__(self, level: float, now: float) -> None:
        self.level = level  # bytes that may be stored now
        self.when = now
        self.kept = 0
        self.slices: deque[list[float]] = deque()  # when each began, and its bytes; oldest first


class Quotas:
    """Counts the bytes that subjects have stored."""

    def __init__(self, limits: Limits, retention: float, metrics: Metrics) -> None:
        """`retention` in s; 0: for ever."""
        self._limits = limits
        self._retention = retention
        self._metrics = metrics
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def take(self, subject: str, size: int, now: float) -> None:
        """Count bytes that are going to be stored at `now` (s). Raise `rate_limited` if that is too fast for the subject, and
        `limit_exceeded` if it has too much already."""
        rate, most = self._limits.telemetry_rate, self._limits.telemetry_kept
        if not rate and not most:
            return
        account = self._account(subject, rate, now)
        if rate:
            account.level = min(BURST * rate, account.level + max(0.0, now - account.when) * rate)
            account.when = now
            if size > account.level:
                self._metrics.telemetry_refused["rate"] += 1
                raise NexusError("rate_limited", f"more than {rate} bytes/s of one subject (limits.telemetry_rate)")
        if most:
            self._forget(account, now)
            if account.kept + size > most:
                self._metrics.telemetry_refused["kept"] += 1
                raise NexusError("limit_exceeded", f"more than {most} bytes of one subject are kept (limits.telemetry_kept)")
            if not account.slices or now - account.slices[-1][0] > self._retention / SLICES > 0:
                account.slices.append([now, 0])
            account.slices[-1][1] += size
            account.kept += size
        account.level -= size

    def give_back(self, subject: str, size: int) -> None:
        """Bytes that were counted have not been stored after all."""
        account = self._accounts.get(subject)
        if account is not None and account.slices:
            taken = min(size, int(account.slices[-1][1]))
            account.slices[-1][1] -= taken
            account.kept -= taken

    def _account(self, subject: str, rate: int, now: float) -> _Account:
        account = self._accounts.get(subject)
        if account is None:
            if len(self._accounts) >= SUBJECTS:
                self._accounts.popitem(last=False)
            account = self._accounts[subject] = _Account(BURST * rate, now)
        else:
            self._accounts.move_to_end(subject)
        return account

    def _forget(self, account: _Account, now: float) -> None:
        slices = account.slices
        while self._retention and slices and slices[0][0] < now - self._retention:
            account.kept -= int(slices.popleft()[1])
