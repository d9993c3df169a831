"""The plug-in runner: calls the operator's own Python in the reactor, such as command handlers and authenticators.

A guest returns a value, a Deferred, a coroutine, or another awaitable. With the reactor of asyncio
(`twistd --reactor=asyncio`), coroutines are asyncio tasks and may await asyncio's awaitables besides Deferreds.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from inspect import isawaitable, iscoroutine
from time import perf_counter
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

SLOW: Final = 0.1  # s that a guest may block the reactor, and with it all clients
NEEDS_ASYNCIO: Final = "it awaits asyncio, which needs `twistd --reactor=asyncio`"
_NO_LOOP: Final = "no running event loop"


class PluginRunner:
    """One function or object of the operator's, by its name in the log."""

    _log = Logger()

    def __init__(self, name: str, advice: str = "") -> None:
        """`advice` is the log's recommendation if the guest is slow."""
        self._name = name
        self._advice = advice
        self._slow = False

    def run(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Call it; the Deferred fires with its (awaited) result, or fails with the exception that it raises."""
        began = perf_counter()
        try:
            result = function(*args)
        except BaseException:  # a guest's `sys.exit()` must not end the server
            return fail()
        finally:
            self._took(perf_counter() - began)
        return self.awaited(result)

    def awaited(self, result: Any) -> Deferred[Any]:
        """Return a Deferred for a result that may have to be awaited. Cancelling it cancels the awaited object."""
        if isinstance(result, Deferred):
            return result
        if not isawaitable(result):
            return succeed(result)
        coroutine = result if iscoroutine(result) else _awaiting(result)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return Deferred.fromCoroutine(self._watched(coroutine, None))
        return Deferred.fromFuture(loop.create_task(self._watched(coroutine, loop)))

    async def _watched(self, coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop | None) -> Any:
        return await self._steps(coroutine, loop)

    @types.coroutine
    def _steps(
        self, coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop | None
    ) -> Generator[Any, Any, Any]:
        """Run a coroutine step by step: each step is timed, and awaited objects are converted for the coroutine's runner."""
        error: BaseException | None = None
        while True:
            began = perf_counter()
            try:
                awaited = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as end:
                return end.value
            except SystemExit as wish:
                raise RuntimeError(f"SystemExit: {wish}") from wish
            except RuntimeError as trouble:
                if loop is None and str(trouble) == _NO_LOOP:
                    raise RuntimeError(NEEDS_ASYNCIO) from trouble
                raise
            finally:
                self._took(perf_counter() - began)
            error = None
            # No value is sent back to the awaited object: Deferreds and futures read their own result when they continue.
            try:
                if loop is not None and isinstance(awaited, Deferred):
                    yield from _fired(awaited, loop).__await__()
                elif loop is None and asyncio.isfuture(awaited):
                    raise RuntimeError(NEEDS_ASYNCIO)
                else:
                    yield awaited
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as thrown:
                error = thrown

    def _took(self, seconds: float) -> None:
        if seconds > SLOW and not self._slow:
            self._slow = True
            self._log.warn(
                "{name} held up all clients for {seconds:.2f} s{advice}; this is said once",
                name=self._name,
                seconds=seconds,
                advice=self._advice and f": {self._advice}",
            )


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _fired(deferred: Deferred[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Wait in an asyncio task until a Deferred has fired; leave its result unchanged."""
    fired: asyncio.Future[None] = loop.create_future()

    def tell(result: Any) -> Any:
        if not fired.done():
            fired.set_result(None)
        return result

    deferred.addBoth(tell)
    try:
        await fired
    except asyncio.CancelledError:
        # The coroutine is told as by any cancelled await; nobody needs the Deferred any more.
        deferred.cancel()
        deferred.addErrback(lambda _: None)
        raise
