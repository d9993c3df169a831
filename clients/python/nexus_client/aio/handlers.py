"""The handlers of commands, and those that run."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from nexus_client.aio.functions import is_coroutine_function, run
from nexus_client.core.core import Core
from nexus_client.core.effects import Invoke
from nexus_client.errors import CommandFailed
from nexus_client.parameters import Parameters

_log = logging.getLogger("nexus_client")


class Call:
    """One execution of a command, the first argument of its handler.

    `caller` is the caller's subject, `agent` the agent that was called if the server named it, `attempt` counts from 1.
    `cancelled` is true once nobody waits for the result any more: for plain functions, as threads cannot be cancelled.
    """

    def __init__(self, invoke: Invoke, progress: Callable[[Any], Awaitable[None]]) -> None:
        self._progress = progress
        self._deadline = invoke.deadline
        self.command = invoke.command
        self.caller = invoke.caller
        self.agent = invoke.agent
        self.attempt = invoke.attempt
        self.cancelled = False

    def progress(self, data: Any = None) -> Awaitable[None]:
        """Tell the caller how far it is: any JSON. Raise `TypeError` for anything else.

        It is sent in any case; await the result, in a coroutine, not to be faster than the network. From a plain function,
        thus another thread, it cannot be awaited.
        """
        return self._progress(data)

    def remaining(self) -> float:
        """Return the seconds until nobody waits for the result any more."""
        return max(0.0, self._deadline - time.monotonic())


class Handlers:
    """Run a handler for each invocation. `after` is called after each report, for what the core wants then."""

    def __init__(self, core: Core, most: int, after: Callable[[], None], drained: Callable[[], Awaitable[None]]) -> None:
        self._core = core
        self._after = after
        self._drained = drained
        self._threads = ThreadPoolExecutor(most, "nexus-handler")  # begins threads when they are needed
        self._handlers: dict[str, tuple[Callable[..., Any], Parameters]] = {}
        self._running: dict[int, tuple[Call, asyncio.Task[None]]] = {}

    def add(self, command: str, handler: Callable[..., Any]) -> None:
        self._handlers[command] = handler, Parameters(handler)

    def invoke(self, invoke: Invoke) -> None:
        handler, parameters = self._handlers[invoke.command]
        loop, home = asyncio.get_running_loop(), threading.get_ident()

        def progress(data: Any) -> Awaitable[None]:
            if threading.get_ident() == home:
                self._progressed(invoke.execution, data)
                return _Drained(self._drained)
            reported = asyncio.run_coroutine_threadsafe(self._progressed_here(invoke.execution, data), loop)
            reported.result()
            return _Drained(self._drained)

        call = Call(invoke, progress)
        task = loop.create_task(self._run(invoke, call, handler, parameters))
        self._running[invoke.execution] = call, task
        task.add_done_callback(lambda task: self._over(invoke, task))

    def cancel(self, execution: int) -> None:
        if execution in self._running:
            call, task = self._running[execution]
            call.cancelled = True
            task.cancel()

    async def ended(self, timeout: float) -> None:
        """Wait until none runs any more, for so many seconds at most."""
        if self._running:
            await asyncio.wait([task for _, task in self._running.values()], timeout=timeout)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, invoke: Invoke, call: Call, handler: Callable[..., Any], parameters: Parameters) -> None:
        try:
            begin = functools.partial(handler, call, **parameters.decode(invoke.parameters))
            if is_coroutine_function(handler):
                result = await begin()
            else:
                result = await _to_its_end(asyncio.ensure_future(run(begin, executor=self._threads)))
            self._core.succeed(time.monotonic(), invoke.execution, result)
        except CommandFailed as error:
            self._fail(invoke, str(error))
        except Exception:
            # The caller is not told what the exception says: that may hold a secret.
            _log.exception("the handler of %s failed", invoke.command)
            self._fail(invoke, f"internal error in handler {invoke.command}")
        self._after()

    def _over(self, invoke: Invoke, task: asyncio.Task[None]) -> None:
        del self._running[invoke.execution]
        if task.cancelled():  # perhaps before it began
            self._fail(invoke, "cancelled")
            self._after()

    def _fail(self, invoke: Invoke, message: str) -> None:
        self._core.fail(time.monotonic(), invoke.execution, message)

    def _progressed(self, execution: int, data: Any) -> None:
        self._core.progress(time.monotonic(), execution, data)
        self._after()

    async def _progressed_here(self, execution: int, data: Any) -> None:
        self._progressed(execution, data)
        await self._drained()


class _Drained:
    """An awaitable that may be left alone."""

    def __init__(self, drained: Callable[[], Awaitable[None]]) -> None:
        self._wait = drained

    def __await__(self) -> Any:
        return self._wait().__await__()


async def _to_its_end(running: asyncio.Future[Any]) -> Any:
    """Wait for a thread, also if nobody waits for its result any more: it occupies its place until it ends."""
    cancelled = False
    while True:
        try:
            result = await asyncio.shield(running)
        except asyncio.CancelledError:
            if running.done():
                raise
            cancelled = True
            continue
        if cancelled:
            raise asyncio.CancelledError
        return result
