"""The connection of a command: what becomes of it is told on standard error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from nexus_client.cli.app import App
from nexus_client.cli.failures import Failure, WrongUsage
from nexus_client.cli.reaching import refused
from nexus_client.errors import NexusError, RequestError, Stopped, Unauthorized, Unsent

if TYPE_CHECKING:
    from nexus_client import Nexus, State


@asynccontextmanager
async def connected(app: App, patient: bool = False, **options: Any) -> AsyncIterator[Nexus]:
    """Give a client of the server, with the options of `Nexus`.

    It is connected; raise `Failure` if the first attempt fails. With `patient` it need not be, and tries for ever. Errors of
    the client come as `Failure`.
    """
    nexus = app.client(**options)
    first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    told = {"state": "", "before": False}

    def changed(state: State) -> None:
        if state.state == "connected":
            if told["before"]:
                app.output.note("connected again", "green", type="state", state="connected")
            told["before"] = True
            if not first.done():
                first.set_result(None)
        elif state.state == "waiting":
            if not first.done() and not patient:
                first.set_exception(_unreachable(app, state.reason))
            else:
                what = "no connection" if told["state"] == "waiting" or not told["before"] else "the connection is lost"
                again = f"{what}: {state.reason or 'closed'}; next attempt in {state.retry_in:.1f} s"
                app.output.note(again, "yellow", type="state", state="waiting", retryIn=state.retry_in)
        elif state.state == "closed" and not first.done():
            first.set_exception(explained(app, state.error or Stopped("the client was closed")))
        told["state"] = state.state

    nexus.on_state(changed)
    try:
        with _reporting(app):
            async with nexus:
                if not patient:
                    await first
                yield nexus
    except NexusError as error:
        raise explained(app, error) from None
    except ValueError as error:  # a name, a pattern, a filter or a metric that cannot be
        raise WrongUsage(str(error)) from None
    finally:
        if first.done() and not first.cancelled():
            first.exception()  # it has been told


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


def _unreachable(app: App, reason: str) -> Failure:
    where = f"cannot reach {app.target.http()}"
    hint = "is it running? bin/serve starts it; --url names another one" if app.target.origin == "default" else ""
    return Failure(f"{where}: {reason or 'the connection was closed'}", hint or "nexus status says more", "unreachable")


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
