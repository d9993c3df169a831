"""Quotas: bounds on the rate and the amount of telemetry stored for a subject or an agent.

Stored bytes are counted in slices of the retention time, which expire one by one, as the store removes samples. The counts are
saved in steps that are small compared to the quota, so that a restart, even after `kill -9`, gains a holder at most one step.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from operator import attrgetter
from typing import Final, Literal

from nexus_tw.interfaces.plugins import Tally
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Limits

BURST: Final = 10.0  # seconds' worth of the rate that may be stored at once: agents send samples that they held back
SLICES: Final = 30  # number of parts of the retention time
HOLDERS: Final = 65536  # most recently active holders that are kept
STEPS: Final = 256  # number of saves until a holder has filled its quota

Kind = Literal["subject", "agent"]
_PREFIX: Final[dict[Kind, str]] = {"subject": "", "agent": "agent_"}


class _Slice:
    """The bytes stored in one part of the retention time."""

    __slots__ = ("began", "bytes", "saved")

    def __init__(self, began: int) -> None:
        self.began = began  # ms since the epoch
        self.bytes = 0
        self.saved = 0  # of these bytes


class _Account:
    """The stored telemetry of one holder."""

    __slots__ = ("kept", "level", "slices", "unsaved", "when")

    def __init__(self, level: float, now: float) -> None:
        self.level = level  # bytes that may be stored now
        self.when = now
        self.kept = 0
        self.unsaved = 0
        self.slices: deque[_Slice] = deque()  # oldest first


class Quotas:
    """Counts the bytes stored for subjects, or for agents."""

    def __init__(self, kind: Kind, limits: Limits, retention: float, metrics: Metrics) -> None:
        """`retention` is in seconds; 0: for ever."""
        prefix = _PREFIX[kind]
        self._kind = kind
        self._keys = f"{prefix}telemetry_rate", f"{prefix}telemetry_kept"
        self._labels = f"{prefix}rate", f"{prefix}kept"
        self._read = attrgetter(*self._keys)
        self._limits = limits
        self._retention = retention
        self._metrics = metrics
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self.due: dict[str, None] = {}  # holders that stored a whole step since the last save

    def take(self, holder: str, size: int, now: float) -> None:
        """Count bytes to be stored at time `now` (s). Raise `rate_limited` if the holder exceeds its rate, and
        `limit_exceeded` if it exceeds its amount."""
        rate, most = self._read(self._limits)
        if not rate and not most:
            return
        account = self._account(holder, rate, now)
        if rate:
            account.level = min(BURST * rate, account.level + max(0.0, now - account.when) * rate)
            account.when = now
            if size > account.level:
                self._metrics.telemetry_refused[self._labels[0]] += 1
                raise NexusError("rate_limited", f"more than {rate} bytes/s of one {self._kind} (limits.{self._keys[0]})")
        if most:
            slices = account.slices
            self._forget(account, now)
            if account.kept + size > most:
                self._metrics.telemetry_refused[self._labels[1]] += 1
                text = f"more than {most} bytes of one {self._kind} are kept (limits.{self._keys[1]})"
                raise NexusError("limit_exceeded", text)
            if not slices or now - slices[-1].began / 1000 > self._retention / SLICES > 0:
                slices.append(_Slice(int(now * 1000)))
            slices[-1].bytes += size
            account.kept += size
            account.unsaved += size
            if account.unsaved * STEPS >= most:
                self.due[holder] = None
        account.level -= size

    def give_back(self, holder: str, size: int) -> None:
        """Release counted bytes that were not stored after all."""
        account = self._accounts.get(holder)
        if account is not None and account.slices:
            taken = min(size, account.slices[-1].bytes)
            account.slices[-1].bytes -= taken
            account.kept -= taken
            account.unsaved -= taken

    def unsaved(self, everything: bool = False) -> list[Tally]:
        """Return the unsaved counts of the holders that are due, or of all, and mark them as saved."""
        holders, self.due = list(self._accounts if everything else self.due), {}
        tallies = []
        for holder in holders:
            account = self._accounts.get(holder)
            if account is not None:
                for part in account.slices:
                    if part.bytes != part.saved:
                        tallies.append(Tally(f"{self._kind} {holder}", part.began, part.bytes - part.saved))
                        part.saved = part.bytes
                account.unsaved = 0
        return tallies

    def not_saved(self, tallies: Iterable[Tally]) -> None:
        """Mark these as unsaved again: saving them failed."""
        for holder, began, size in self._mine(tallies):
            account = self._accounts.get(holder)
            if account is not None:
                for part in account.slices:
                    if part.began == began:
                        part.saved -= size
                        account.unsaved += size
                        self.due[holder] = None

    def load(self, tallies: Iterable[Tally], now: float) -> None:
        """Count bytes that were stored before this process started."""
        rate = self._read(self._limits)[0]
        for holder, began, size in sorted(self._mine(tallies), key=lambda each: each[1]):
            account = self._account(holder, rate, now)
            part = _Slice(began)
            part.bytes = part.saved = size
            account.slices.append(part)
            account.kept += size

    def _mine(self, tallies: Iterable[Tally]) -> Iterable[tuple[str, int, int]]:
        for holder, began, size in tallies:
            kind, _, name = holder.partition(" ")
            if kind == self._kind:
                yield name, began, size

    def _account(self, holder: str, rate: int, now: float) -> _Account:
        account = self._accounts.get(holder)
        if account is None:
            if len(self._accounts) >= HOLDERS:
                self._accounts.popitem(last=False)
            account = self._accounts[holder] = _Account(BURST * rate, now)
        else:
            self._accounts.move_to_end(holder)
        return account

    def _forget(self, account: _Account, now: float) -> None:
        slices = account.slices
        while self._retention and slices and slices[0].began / 1000 < now - self._retention:
            part = slices.popleft()
            account.kept -= part.bytes
            account.unsaved -= part.bytes - part.saved
