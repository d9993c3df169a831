"""Budgets: the size of a resource that all subjects share, and the part of it that one subject may take.

Every resource that outlives a connection or is shared by connections has a budget, so that one subject cannot exhaust it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar
from weakref import WeakSet

from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Limits

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


# All budgets. Each holds a copy of its limit: reading `Limits` each time would slow down every command and sample.
_pots: Final[WeakSet[Budget]] = WeakSet()


def follow(limits: Limits) -> None:
    """Update the budgets of these limits after the limits have changed."""
    for pot in list(_pots):
        pot.follow(limits)


class Budget:
    """Counts what subjects have taken of one bounded resource."""

    __slots__ = ("__weakref__", "_code", "_key", "_limits", "_metrics", "_name", "_taken", "share", "size", "taken")

    def __init__(
        self, name: str, size: int | str, limits: Limits, metrics: Metrics, code: str = "limit_exceeded"
    ) -> None:
        """`name` occurs in errors and metrics. `size` bounds all subjects together, or is the key of `limits` that does (0: no
        limit); one subject's part of it is `limits.share`. `code` is the error's: `rate_limited` if a retry soon succeeds.

        A subject that has taken nothing can always take one unit, as long as the budget is not full.
        """
        self._name = name
        self._key = size if isinstance(size, str) else ""
        self._limits = limits
        self._metrics = metrics
        self._code = code
        self._taken: dict[str, int] = {}
        self.taken = 0
        self.resize(getattr(limits, size) if isinstance(size, str) else size)
        _pots.add(self)

    def resize(self, size: int) -> None:
        """Set the size. Amounts already taken are kept, even if they exceed it."""
        self.size = size
        self.share = max(1, int(size * self._limits.share))

    def follow(self, limits: Limits) -> None:
        """Take the size and share from these limits, if they are the budget's own."""
        if limits is self._limits:
            self.resize(getattr(limits, self._key) if self._key else self.size)

    def spills(self, subject: str, amount: int = 0) -> bool:
        """Return whether taking `amount` more would exceed the subject's share."""
        return self.size > 0 and self._taken.get(subject, 0) + amount > self.share

    def full(self, amount: int = 0) -> bool:
        """Return whether taking `amount` more would exceed the size."""
        return self.size > 0 and self.taken + amount > self.size

    def fits(self, subject: str, amount: int) -> bool:
        """Return whether the subject may take `amount`."""
        return not self.size or (
            self._taken.get(subject, 0) + amount <= self.share and self.taken + amount <= self.size
        )

    def count(self, subject: str, amount: int) -> None:
        """Count `amount` as taken by the subject, without checking the size or its share."""
        self._taken[subject] = self._taken.get(subject, 0) + amount
        self.taken += amount

    def refusal(self, subject: str, amount: int = 1) -> NexusError | None:
        """Return the error if the subject may not take `amount`, and count the refusal; None if it may."""
        if self.spills(subject, amount):
            text = f"More than {self.share} {self._name} of one subject (limits.share)"
        elif self.full(amount):
            text = f"More than {self.size} {self._name} of all subjects" + (f" (limits.{self._key})" if self._key else "")
        else:
            return None
        self._metrics.shares_refused[self._name] += 1
        return NexusError(self._code, text)

    def take(self, subject: str, amount: int = 1) -> None:
        """Take `amount` for the subject. Raise `NexusError` if that would exceed its share or the size."""
        taken = self._taken.get(subject, 0) + amount
        if not self.size or (taken <= self.share and self.taken + amount <= self.size):
            self._taken[subject] = taken
            self.taken += amount
            return
        error = self.refusal(subject, amount)
        assert error is not None
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame: the cycle would keep the refused object until a collection

    def give_back(self, subject: str, amount: int = 1) -> None:
        """Release `amount` that the subject took. Raise `ValueError` if it has taken less."""
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


class _Part(Generic[K]):
    """The keys and amounts of one subject on a shelf."""

    __slots__ = ("amounts", "keys")

    def __init__(self, kinds: int) -> None:
        self.amounts = [0] * kinds
        self.keys: OrderedDict[K, None] = OrderedDict()


class Shelf(Generic[K, V]):
    """Keeps values of subjects in order of arrival, as long as there is room.

    If there is none, evicts the oldest value of a subject that exceeds its share; if none does, the oldest of all.
    """

    def __init__(self, limits: Limits, *sizes: int | str) -> None:
        """`sizes` bound all subjects together for each kind of amount, or are the keys of `limits` that do; 0: keep nothing.
        They are not `Budget`s, since those would slow down every command."""
        self._limits = limits
        self._sizes = sizes
        self._kept: OrderedDict[K, tuple[V, str, tuple[int, ...]]] = OrderedDict()
        self._parts: dict[str, _Part[K]] = {}
        self._greedy: dict[_Part[K], None] = {}  # of subjects that exceed their share
        self._taken = [0] * len(sizes)

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: K) -> bool:
        return key in self._kept

    def __iter__(self) -> Iterator[V]:
        """Iterate over the values, oldest first."""
        return (value for value, _, _ in self._kept.values())

    def get(self, key: K) -> V | None:
        kept = self._kept.get(key)
        return None if kept is None else kept[0]

    @property
    def taken(self) -> tuple[int, ...]:
        """The amount of each kind that all values take together."""
        return tuple(self._taken)

    def put(self, key: K, value: V, subject: str, *amounts: int) -> list[V]:
        """Keep the value, replacing one with the same key; `amounts` are its size of each kind. Return the evicted values."""
        if key in self._kept:
            self._drop(key)
        part = self._parts.get(subject)
        if part is None:
            part = self._parts[subject] = _Part(len(self._sizes))
        self._kept[key] = value, subject, amounts
        part.keys[key] = None
        full = self._change(part, amounts, 1)
        gone: list[V] = []
        while full and self._kept:
            greedy = next(iter(self._greedy), None)
            oldest = next(iter(self._kept if greedy is None else greedy.keys))
            full = self._drop(oldest, gone)
        return gone

    def clear(self) -> list[V]:
        """Remove and return all values, oldest first."""
        values = [value for value, _, _ in self._kept.values()]
        self._kept.clear()
        self._parts.clear()
        self._greedy.clear()
        self._taken = [0] * len(self._sizes)
        return values

    def _drop(self, key: K, gone: list[V] | None = None) -> bool:
        """Remove one value and append it to `gone`. Return whether a size is still exceeded."""
        value, subject, amounts = self._kept.pop(key)
        part = self._parts[subject]
        if gone is not None:
            gone.append(value)
        del part.keys[key]
        full = self._change(part, amounts, -1)
        if not part.keys:
            del self._parts[subject]
        return full

    def _change(self, part: _Part[K], amounts: tuple[int, ...], sign: int) -> bool:
        """Add (`sign` 1) or subtract (-1) the amounts. Return whether a size is exceeded."""
        full = greedy = False
        taken, own, limits = self._taken, part.amounts, self._limits
        for place, size in enumerate(self._sizes):
            most: int = getattr(limits, size) if isinstance(size, str) else size
            change = sign * amounts[place]
            taken[place] += change
            own[place] += change
            if taken[place] > most:
                full = True
            if own[place] > most * limits.share:
                greedy = True
        if greedy:
            self._greedy[part] = None
        elif part in self._greedy:
            del self._greedy[part]
        return full
