"""Pots: what is there for all subjects together, and the share of it that one subject may take.

Everything that outlives a connection or is common to all of them is taken out of a pot, so that one subject cannot use up
what the others need.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from nexus_tw.errors import NexusError
from nexus_tw.metrics import Metrics
from nexus_tw.settings import Limits

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Pot:
    """Counts what subjects have taken of one bounded resource."""

    __slots__ = ("_code", "_key", "_limits", "_metrics", "_name", "_taken", "fixed", "taken")

    def __init__(
        self, name: str, size: int | str, limits: Limits, metrics: Metrics, code: str = "limit_exceeded"
    ) -> None:
        """`name` stands in errors and metrics; `size` bounds all subjects together, or is the key of `limits` that does (0: no
        limit). One subject's part of it is `limits.share`. Both are read each time, so they follow a reload. `code` is the
        error's: `rate_limited` for what is soon there again.

        One unit can always be taken by a subject that has none, as long as the pot has it.
        """
        self._name = name
        self._key = size if isinstance(size, str) else ""
        self._limits = limits
        self._metrics = metrics
        self._code = code
        self._taken: dict[str, int] = {}
        self.fixed = 0 if isinstance(size, str) else size
        self.taken = 0

    @property
    def size(self) -> int:
        """How much there is for all."""
        size: int = getattr(self._limits, self._key) if self._key else self.fixed
        return size

    @property
    def share(self) -> int:
        """How much of it one subject may take."""
        return max(1, int(self.size * self._limits.share))

    def spills(self, subject: str, amount: int = 0) -> bool:
        """Return whether the subject would have more than its share with `amount` more."""
        own = self._taken.get(subject, 0) + amount
        # Without a call of `size`, as this is asked for every sample of telemetry.
        return own > 1 and own > (self.fixed or self.size) * self._limits.share and self.size > 0

    def full(self, amount: int = 0) -> bool:
        """Return whether all of them would have more than there is with `amount` more."""
        size = self.size
        return size > 0 and self.taken + amount > size

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


class Shelf(Generic[K, V]):
    """Keeps things in the order in which they came, each for a subject, as far as pots have room for them.

    If there is no room, the oldest of a subject that has more than its share goes; if none has, the oldest of all.
    """

    def __init__(self, *pots: Pot) -> None:
        self._pots = pots
        self._kept: OrderedDict[K, tuple[V, str, Sequence[int]]] = OrderedDict()
        self._own: dict[str, OrderedDict[K, None]] = {}
        self._greedy: dict[str, None] = {}  # subjects that have more than their share

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: K) -> bool:
        return key in self._kept

    def put(self, key: K, value: V, subject: str, *amounts: int) -> list[V]:
        """Keep it, in the place of what has that key; `amounts` are what it takes of each pot. Return what had to go."""
        if key in self._kept:
            self._drop(key)
        self._kept[key] = value, subject, amounts
        self._own.setdefault(subject, OrderedDict())[key] = None
        for pot, amount in zip(self._pots, amounts, strict=True):
            pot.count(subject, amount)
        self._judge(subject)
        gone = []
        while self._kept and any(pot.full() for pot in self._pots):
            greedy = next(iter(self._greedy), None)
            gone.append(self._drop(next(iter(self._kept if greedy is None else self._own[greedy]))))
        return gone

    def clear(self) -> list[V]:
        """Return all that is kept, oldest first, and keep nothing of it."""
        values = [value for value, _, _ in self._kept.values()]
        while self._kept:
            self._drop(next(iter(self._kept)))
        return values

    def _drop(self, key: K) -> V:
        value, subject, amounts = self._kept.pop(key)
        own = self._own[subject]
        del own[key]
        if not own:
            del self._own[subject]
        for pot, amount in zip(self._pots, amounts, strict=True):
            pot.give_back(subject, amount)
        self._judge(subject)
        return value

    def _judge(self, subject: str) -> None:
        if any(pot.spills(subject) for pot in self._pots):
            self._greedy[subject] = None
        else:
            self._greedy.pop(subject, None)
