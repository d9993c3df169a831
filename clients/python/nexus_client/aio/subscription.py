"""A stream of events as an asynchronous iterator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from nexus_client.core.queue import Queue
from nexus_client.errors import NexusError
from nexus_client.events import Event, Gap


class Source(Protocol):
    """What a subscription needs of its client."""

    def open_stream(
        self,
        subscription: Subscription,
        patterns: Sequence[str],
        where: Mapping[str, Any] | None,
        since: Mapping[str, str] | None,
    ) -> Callable[[], None]: ...

    def stream_positions(self, subscription: Subscription) -> dict[str, str]: ...


class Subscription:
    """Returned by `Nexus.subscribe`: begins and ends with `async with`, gives each `Event` and `Gap` to `async for`.

    The iteration ends when the subscription or the client is closed. It raises the error if the server refuses the
    subscription, or if the client had to stop. Iterate in one task only.
    """

    def __init__(
        self,
        source: Source,
        limit: int,
        patterns: Sequence[str],
        where: Mapping[str, Any] | None,
        since: Mapping[str, str] | None,
    ) -> None:
        self._source = source
        self._wanted = patterns, where, since
        self._queue = Queue(limit)
        self._close: Callable[[], None] | None = None
        self._moved: asyncio.Future[None] | None = None
        self._accepted = asyncio.Event()
        self._over = False
        self._error: NexusError | None = None
        self._last: dict[str, str] = {}

    @property
    def positions(self) -> dict[str, str]:
        """By event type, the position up to which everything was taken by the iteration; to be saved, and given as `since`."""
        return self._queue.positions(self._last if self._over else self._source.stream_positions(self))

    @property
    def dropped(self) -> int:
        """How many items were dropped because they were taken too slowly; each place is told by a `Gap`."""
        return self._queue.dropped

    async def accepted(self) -> None:
        """Return once the server has accepted the subscription: events from then on come. Raise the error if it never will."""
        await self._accepted.wait()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End it. What is queued may still be taken."""
        if self._close is not None:
            self._close()

    async def __aenter__(self) -> Self:
        if self._close is not None:
            raise RuntimeError("this subscription has been used before")
        self._close = self._source.open_stream(self, *self._wanted)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        if self._close is None:
            raise RuntimeError("a subscription begins with `async with`")
        return self

    async def __anext__(self) -> Event | Gap:
        while (item := self._queue.take()) is None:
            if self._over:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._moved = asyncio.get_running_loop().create_future()
            await self._moved
        return item

    # The client's side.

    def accept(self) -> None:
        self._accepted.set()

    def put(self, item: Event | Gap) -> None:
        self._queue.put(item)
        self._wake()

    def end(self, error: NexusError | None, positions: dict[str, str]) -> None:
        self._over = True
        self._error = error
        self._last = positions
        self._accepted.set()
        self._wake()

    def _wake(self) -> None:
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)
