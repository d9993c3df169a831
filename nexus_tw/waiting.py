"""What waits under keys, in the order in which it came; the one that waits alone takes no queue."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)


class Waiting(Generic[K, V]):
    """Queues by key. A value waits once at most, and is no `OrderedDict`."""

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        self._queues: dict[K, V | OrderedDict[V, None]] = {}

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._queues)

    def __contains__(self, key: K) -> bool:
        return key in self._queues

    def __iter__(self) -> Iterator[K]:
        return iter(self._queues)

    def add(self, key: K, value: V) -> None:
        """Let it wait behind all others of this key."""
        queue = self._queues.setdefault(key, value)
        if isinstance(queue, OrderedDict):
            queue[value] = None
        elif queue is not value:
            self._queues[key] = OrderedDict.fromkeys((queue, value))

    def first(self, key: K) -> V | None:
        """Return what has waited the longest under this key."""
        queue = self._queues.get(key)
        return next(iter(queue)) if isinstance(queue, OrderedDict) else queue

    def remove(self, key: K, value: V) -> None:
        """Let it wait no longer. Raise `KeyError` if it does not."""
        queue = self._queues[key]
        if isinstance(queue, OrderedDict):
            del queue[value]
            if queue:
                return
        elif queue is not value:
            raise KeyError(value)
        del self._queues[key]
