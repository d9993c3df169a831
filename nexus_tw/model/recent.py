"""Recent keys: a bounded memory of what was there lately, shared between subjects."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from nexus_tw.model.settings import Limits

K = TypeVar("K", bound=Hashable)


class Recent(Generic[K]):
    """Remembers keys in order of arrival, at most `size` of all subjects together.

    If there are more, forgets the oldest of a subject that exceeds its share (`limits.share`); if none does, the oldest of all.
    """

    __slots__ = ("_greedy", "_kept", "_limits", "_parts", "_size")

    def __init__(self, limits: Limits, size: int) -> None:
        self._limits = limits
        self._size = size
        self._kept: OrderedDict[K, str] = OrderedDict()
        self._parts: dict[str, OrderedDict[K, None]] = {}
        self._greedy: dict[str, None] = {}  # subjects that exceed their share

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: K) -> bool:
        return key in self._kept

    def put(self, key: K, subject: str) -> None:
        """Remember a key as the latest of this subject."""
        kept, size = self._kept, self._size
        if key in kept:
            self._drop(key)
        part = self._parts.get(subject)
        if part is None:
            part = self._parts[subject] = OrderedDict()
        kept[key] = subject
        part[key] = None
        if len(part) > size * self._limits.share:
            self._greedy[subject] = None
        if len(kept) > size:
            greedy = next(iter(self._greedy), None)
            self._drop(next(iter(kept if greedy is None else self._parts[greedy])))

    def _drop(self, key: K) -> None:
        subject = self._kept.pop(key)
        part = self._parts[subject]
        del part[key]
        if not part:
            del self._parts[subject]
        if len(part) <= self._size * self._limits.share:
            self._greedy.pop(subject, None)
