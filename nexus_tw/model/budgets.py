"""Budgets: what is there for all subjects together, and the share of it that one subject may take.

Everything that outlives a connection or is common to all of them is taken out of a pot, so that one subject cannot use up
what the others need.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar
from weakref import WeakSet

from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Limits

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


# All there are: they hold what the limits say, as asking these each time would make every command and sample dearer.
_pots: Final[WeakSet[Budget]] = WeakSet()


def follow(limits: Limits) -> None:
    """These limits have changed: have their pots hold what they say now."""
    for pot in list(_pots):
        pot.follow(limits)


class Budget:
    """Counts what subjects have taken of one bounded resource."""

    __slots__ = ("__weakref__", "_code", "_key", "_limits", "_metrics", "_name", "_taken", "share", "size", "taken")

    def __init__(
        self, name: str, size: int | str, limits: Limits, metrics: Metrics, code: str = "limit_exceeded"
    ) -> None:
        """`name` stands in errors and metrics; `size` bounds all subjects together, or is the key of `limits` that does (0: no
        limit). One subject's part of it is `limits.share`. `code` is the error's: `rate_limited` for what is soon there again.

        One unit can always be taken by a subject that has none, as long as the pot has it.
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
        """From now on there is so much. What was taken stays taken."""
        self.size = size
        self.share = max(1, int(size * self._limits.share))

    def follow(self, limits: Limits) -> None:
        """Take what these limits say now, if they are the pot's."""
        if limits is self._limits:
            self.resize(getattr(limits, self._key) if self._key else self.size)

    def spills(self, subject: str, amount: int = 0) -> bool:
        """Return whether the subject would have more than its share with `amount` more."""
        return self.size > 0 and self._taken.get(subject, 0) + amount > self.share

    def full(self, amount: int = 0) -> bool:
        """Return whether all of them would have more than there is with `amount` more."""
        return self.size > 0 and self.taken + amount > self.size

    def count(self, subject: str, amount: int) -> None:
        """Count what the subject has already, whether there is room for it or not."""
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
        """Take `amount` for the subject. Raise if it would exceed its share, or all of them the pot."""
        error = self.refusal(subject, amount)
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback leads through here: both would keep what was refused until the next collection
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


class _Part(Generic[K]):
    """What a shelf keeps for one subject."""

    __slots__ = ("amounts", "keys")

    def __init__(self, kinds: int) -> None:
        self.amounts = [0] * kinds
        self.keys: OrderedDict[K, None] = OrderedDict()


class Shelf(Generic[K, V]):
    """Keeps things in the order in which they came, each for a subject, as long as there is room.

    If there is none, the oldest of a subject that has more than its share goes; if none has, the oldest of all.
    """

    def __init__(self, limits: Limits, *sizes: int | str) -> None:
        """`sizes` bound what all take together of each kind, or are the keys of `limits` that do; 0: nothing is kept. They are
        no pots, whose counts would make every command dearer."""
        self._limits = limits
        self._sizes = sizes
        self._kept: OrderedDict[K, tuple[V, str, tuple[int, ...]]] = OrderedDict()
        self._parts: dict[str, _Part[K]] = {}
        self._greedy: dict[_Part[K], None] = {}  # those of subjects that have more than their share
        self._taken = [0] * len(sizes)

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: K) -> bool:
        return key in self._kept

    @property
    def taken(self) -> tuple[int, ...]:
        """How much all take of each kind."""
        return tuple(self._taken)

    def put(self, key: K, value: V, subject: str, *amounts: int) -> list[V]:
        """Keep it, in the place of what has that key; `amounts` are what it takes of each kind. Return what had to go."""
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
        """Return all that is kept, oldest first, and keep nothing of it."""
        values = [value for value, _, _ in self._kept.values()]
        self._kept.clear()
        self._parts.clear()
        self._greedy.clear()
        self._taken = [0] * len(self._sizes)
        return values

    def _drop(self, key: K, gone: list[V] | None = None) -> bool:
        """Drop it, and return whether there is still too much; `gone` gets it."""
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
        """Count what came or went. Return whether all have too much."""
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
