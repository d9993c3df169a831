"""Functions that the application gives: coroutine functions, and plain ones, which run in a thread."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Return whether a call of it gives a coroutine; also for an object with such a `__call__`."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - asks for its kind


async def run(function: Callable[..., Any], *arguments: Any, executor: Executor | None = None, **named: Any) -> Any:
    """Call the function and return its result.

    A plain function runs in a thread of the executor (None: the loop's own); what it returns is awaited here, if it can be.
    """
    if is_coroutine_function(function):
        return await function(*arguments, **named)
    context = contextvars.copy_context()
    call = functools.partial(context.run, function, *arguments, **named)
    result = await asyncio.get_running_loop().run_in_executor(executor, call)
    return await result if inspect.isawaitable(result) else result
