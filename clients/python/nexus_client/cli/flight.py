"""A bounded number of tasks at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self


class Flight:
    """Tasks of which at most `most` run at once. Leaving it waits for all of them; the first error ends it, and the others."""

    def __init__(self, most: int) -> None:
        self._room = asyncio.Semaphore(most)
        self._group = asyncio.TaskGroup()

    async def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task, as soon as there is room for it."""
        try:
            await self._room.acquire()
        except asyncio.CancelledError:
            work.close()
            raise
        self._group.create_task(work).add_done_callback(lambda _: self._room.release())

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
