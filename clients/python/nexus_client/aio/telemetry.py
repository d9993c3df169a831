"""Samples on their way into the spool, and the news of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from nexus_client.core.options import Sample
from nexus_client.errors import NexusError, SampleDropped, Stopped
from nexus_client.spool import Spool

WAITING: Final = 10_000  # samples that wait for the disk; more let their senders wait
AGAIN: Final = 5.0  # seconds until a spool that could not be read is tried again

_log = logging.getLogger("nexus_client")


class Recorded:
    """A sample that is in the spool."""

    def __init__(self, id: str) -> None:
        self.id = id
        self._waiting: list[asyncio.Future[None]] = []
        self._over = False
        self._error: NexusError | None = None

    @property
    def stored(self) -> asyncio.Future[None]:
        """A future that ends once the server has stored the sample.

        It fails with `SampleDropped` if the spool was full, with `RequestError` if the server refuses the sample, and with
        `Stopped` if the client ends before; a spool on disk still sends it after the next start.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._over:
            self._tell(future)
        else:
            self._waiting.append(future)
        return future

    def settle(self, error: NexusError | None) -> None:
        """The client's word on what has become of it."""
        self._over = True
        self._error = error
        for future in self._waiting:
            if not future.done():
                self._tell(future)
        self._waiting.clear()

    def _tell(self, future: asyncio.Future[None]) -> None:
        if self._error is None:
            future.set_result(None)
        else:
            future.set_exception(self._error)


class Telemetry:
    """One after the other, calls of the spool: in a thread if it has a file, so that a slow disk stops nothing else."""

    def __init__(self, spool: Spool, spooled: Callable[[], None], batch: Callable[[list[Sample]], None]) -> None:
        self._spool = spool
        self._spooled = spooled
        self._batch = batch
        self._thread = None if spool.in_memory else ThreadPoolExecutor(1, "nexus-spool")
        self._adding: list[tuple[Sample, asyncio.Future[Recorded]]] = []
        self._recorded: dict[str, Recorded] = {}
        self._removed: list[str] = []  # by the server's word, but still in the spool
        self._tasks: set[asyncio.Task[None]] = set()
        self._fetching: asyncio.Task[None] | None = None
        self._is_open = False
        self._flushing = False
        self._removing = False
        self._moved = asyncio.Event()

    async def open(self) -> None:
        """Open the spool. Raise `OSError` if that is not possible."""
        await self._run(self._spool.open)
        self._is_open = True
        self._flush()
        if len(self._spool):
            self._spooled()

    async def add(self, sample: Sample) -> Recorded:
        """Return once the sample is in the spool; before it is open, once it is. Raise `OSError` if it cannot be written."""
        while len(self._adding) >= WAITING:
            self._moved.clear()
            await self._moved.wait()
        waiting: asyncio.Future[Recorded] = asyncio.get_running_loop().create_future()
        self._adding.append((sample, waiting))
        self._flush()
        return await waiting

    def fetch(self, limit: int) -> None:
        self._fetching = self._start(self._fetch(limit))

    def settle(self, ids: list[str], error: NexusError | None) -> None:
        """The server has stored these samples or, with an error, never will."""
        for name in ids:
            self._tell(name, error)
        self._removed += ids
        if not self._removing:
            self._removing = True
            self._start(self._remove())

    async def emptied(self) -> None:
        """Return once the server has everything."""
        while self._adding or self._flushing or len(self._spool):
            self._moved.clear()
            await self._moved.wait()

    async def close(self, error: Stopped) -> None:
        """Close the spool; what waits is told the error."""
        self._is_open = False
        if self._fetching is not None:
            self._fetching.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        for _, waiting in self._adding:
            if not waiting.done():
                waiting.set_exception(error)
        self._adding.clear()
        for name in list(self._recorded):
            self._tell(name, error)
        self._moved.set()
        await self._run(self._spool.close)
        if self._thread is not None:
            self._thread.shutdown()

    def _flush(self) -> None:
        """Add what waits at the end of this turn of the loop, in one transaction; what comes meanwhile goes into the next."""
        if self._is_open and not self._flushing and self._adding:
            self._flushing = True
            self._start(self._add())

    async def _add(self) -> None:
        batch, self._adding = self._adding, []
        try:
            dropped = await self._run(self._spool.add, [sample for sample, _ in batch])
        except OSError as error:
            for _, waiting in batch:
                if not waiting.done():
                    waiting.set_exception(error)
        else:
            for sample, waiting in batch:
                recorded = self._recorded[sample.id] = Recorded(sample.id)
                if not waiting.done():
                    waiting.set_result(recorded)
            for name in dropped:
                self._tell(name, SampleDropped("the spool was full"))
            self._spooled()
        self._flushing = False
        self._moved.set()
        self._flush()

    async def _fetch(self, limit: int) -> None:
        while True:
            try:
                samples = await self._run(self._spool.next, limit)
            except OSError:
                _log.exception("the spool cannot be read")
                await asyncio.sleep(AGAIN)
            else:
                self._batch(samples)
                return

    async def _remove(self) -> None:
        """Remove from the spool what the server has. If that fails it stays for the next time: the server knows the ids."""
        ids, self._removed = self._removed, []
        try:
            await self._run(self._spool.remove, ids)
        except OSError:
            _log.exception("samples that are stored cannot be removed from the spool")
            self._removed += ids
            self._removing = False
        else:
            self._moved.set()
            self._removing = False
            if self._removed:
                self.settle([], None)

    def _tell(self, id: str, error: NexusError | None) -> None:
        recorded = self._recorded.pop(id, None)
        if recorded is not None:
            recorded.settle(error)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self._thread is None:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
