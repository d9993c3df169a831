"""A bounded number of tasks at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self


class Flight:
    """Tasks of which at most `most` run at once. After the first that fails no more is started, and its error is raised.

    Leaving it waits for all, also after an error; if it is cancelled, it cancels them.
    """

    def __init__(self, most: int) -> None:
        self._room = asyncio.Semaphore(most)
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None

    async def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task, as soon as there is room for it. Raise the error of an earlier one."""
        try:
            await self._room.acquire()
            if self._error is not None:
                raise self._error
        except BaseException:
            work.close()
            raise
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()
        if not task.cancelled():
            self._error = self._error or task.exception()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._tasks and not isinstance(error, asyncio.CancelledError):
                await asyncio.wait(self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
        if error is None and self._error is not None:
            raise self._error
