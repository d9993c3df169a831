"""Run the coroutine of a command so that Ctrl-C and SIGTERM end it in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from typing import Any, Final, TypeVar

from nexus_client.cli.failures import Interrupted

Result = TypeVar("Result")

ENDING: Final = (signal.SIGINT, signal.SIGTERM)


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run `main` and return its result. The first SIGINT or SIGTERM cancels it, a second one ends the process at once.

    Raise `Interrupted` if a signal came, even if `main` returned because of it.
    """
    with _signals_lent():
        return asyncio.run(_watched(main))


@contextlib.contextmanager
def _signals_lent() -> Iterator[None]:
    """Give the signals back as they were, unless one of them ends the process: then the next one ends it at once.

    asyncio leaves behind a process in which signals wake no loop; Twisted's reactor would not learn that a child has ended.
    """
    handlers = {number: signal.getsignal(number) for number in ENDING}
    wakeup = signal.set_wakeup_fd(-1)
    try:
        yield
    except Interrupted:
        handlers.clear()
        raise
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # else it is not one of Python's, which cannot put it back
                signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        if wakeup != -1:
            signal.raise_signal(signal.SIGCHLD)  # for children that ended meanwhile


async def _watched(main: Coroutine[Any, Any, Result]) -> Result:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main)
    came: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        came.append(number)
        for each in ENDING:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        task.cancel()

    for each in ENDING:
        loop.add_signal_handler(each, end, each)
    try:
        result = await task
    except asyncio.CancelledError:
        if came:
            raise Interrupted(came[0]) from None
        raise
    finally:
        for each in ENDING:
            loop.remove_signal_handler(each)
    if came:
        raise Interrupted(came[0])
    return result
