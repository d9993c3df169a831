"""Run the coroutine of a command so that Ctrl-C and SIGTERM end it in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from nexus_client.cli.failures import Interrupted

Result = TypeVar("Result")


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run `main` and return its result. The first SIGINT or SIGTERM cancels it, a second one ends the process at once.

    Raise `Interrupted` if a signal came, even if `main` returned because of it.
    """
    return asyncio.run(_watched(main))


async def _watched(main: Coroutine[Any, Any, Result]) -> Result:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main)
    came: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        came.append(number)
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        task.cancel()

    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, end, each)
    try:
        result = await task
    except asyncio.CancelledError:
        if came:
            raise Interrupted(came[0]) from None
        raise
    finally:
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
    if came:
        raise Interrupted(came[0])
    return result
