"""The connection of a command: what becomes of it is told on standard error."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

from nexus_client.cli.app import App
from nexus_client.cli.failures import Failure, WrongUsage
from nexus_client.cli.http import ask
from nexus_client.cli.reaching import refused
from nexus_client.errors import NexusError, RequestError, Stopped, Unauthorized, Unsent

if TYPE_CHECKING:
    from nexus_client import Nexus, State

_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")


@asynccontextmanager
async def connected(app: App, patient: bool = False, **options: Any) -> AsyncIterator[Nexus]:
    """Give a client of the server, with the options of `Nexus`.

    It is connected; raise `Failure` if the first attempt fails. With `patient` it need not be, and tries for ever. Errors of
    the client come as `Failure`.
    """
    nexus = app.client(**options)
    watch = Watch(app)
    nexus.on_state(watch.changed)
    try:
        with _reporting(app):
            async with nexus:
                if not patient:
                    await watch.first()
                watch.chatty = True
                yield nexus
    except NexusError as error:
        raise explained(app, error) from None
    except ValueError as error:  # a name, a pattern, a filter or a metric that cannot be
        raise WrongUsage(str(error)) from None


class Watch:
    """Notices what becomes of the connection. Once it is `chatty` it tells that on standard error."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._last: State | None = None
        self._been = False  # connected before
        self._changed = asyncio.Event()
        self.chatty = False

    async def first(self) -> None:
        """Wait for the first attempt. Raise why there is no connection: `Failure`, or what stopped the client."""
        while self._last is None or self._last.state == "connecting":
            self._changed.clear()
            await self._changed.wait()
        if self._last.state == "closed":
            raise self._last.error or Stopped("the client was closed")
        if self._last.state != "connected":
            # Ask again, in a way that tells refusal, an unknown name, TLS and firewalls apart.
            await asyncio.to_thread(ask, self._app.target, "GET", "/health/live")
            why = plain(self._last.reason)
            raise Failure(
                f"{self._app.target.http()} answers, but gives no session: {why}", "nexus status says more", "unreachable"
            )

    def changed(self, state: State) -> None:
        """Take the client's new state."""
        before, self._last = self._last, state
        self._changed.set()
        output = self._app.output
        if state.state == "connected":
            if self._been:
                output.note("connected again", "green", type="state", state="connected")
            self._been = True
        elif state.state == "waiting" and self.chatty:
            what = "the connection is lost" if before is not None and before.state == "connected" else "no connection"
            again = f"{what}: {plain(state.reason)}; next attempt in {state.retry_in or 0.0:.1f} s"
            output.note(again, "yellow", type="state", state="waiting", retryIn=state.retry_in)


@contextmanager
def _reporting(app: App) -> Iterator[None]:
    """Tell what the client reports to its log."""
    log = logging.getLogger("nexus_client")
    handler = _Notes(app)
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = True


class _Notes(logging.Handler):
    """Warnings as notes, and what failed within the client; that it has stopped is told by the command's own failure."""

    def __init__(self, app: App) -> None:
        super().__init__(logging.WARNING)
        self._output = app.output

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING:
            self._output.note(record.getMessage(), "yellow", type="log")
        elif record.exc_info and record.exc_info[1] is not None:
            self._output.note(f"{record.getMessage()}: {record.exc_info[1]!r}", "red", type="log")


def plain(reason: str) -> str:
    """Return why an attempt ended, with the system's words for its errors: `connection refused`."""
    number = _ERRNO.search(reason)
    return os.strerror(int(number[1])).lower() if number else reason or "the connection was closed"


def explained(app: App, error: NexusError) -> Failure:
    """Return a client's error with its code, and what to do about it."""
    if isinstance(error, RequestError):
        return refused(error.code, str(error), error.retryable)
    if isinstance(error, Unauthorized):
        return refused("unauthorized", f"{app.target.http()}: {error}")
    if isinstance(error, Unsent):
        hint = "it may have had its effect" if error.maybe_sent else "it was not sent"
        return Failure(str(error), hint, _code(error), maybeSent=error.maybe_sent)
    return Failure(str(error) or type(error).__name__, code=_code(error))


def _code(error: NexusError) -> str:
    """Return the name of a class as a code: `connection_lost`."""
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in type(error).__name__).lstrip("_")
