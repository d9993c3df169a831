"""A command that this client has called."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Final, TypeVar

import msgspec

from nexus_client.errors import NexusError

Item = TypeVar("Item")

STEPS: Final = 1000  # of progress, that wait to be taken; the oldest are dropped


class Step(msgspec.Struct, frozen=True):
    """Progress of a command. `agent` is None if the server itself executes it."""

    agent: str | None
    data: Any


class Run:
    """Returned by `Nexus.call`; await it for the result.

    The command is on its way already. If the task that awaits it is cancelled, so is the command.
    """

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._steps: deque[Step] = deque(maxlen=STEPS)
        self._outcomes: deque[dict[str, Any]] = deque()  # one for each target at most
        self._moved = asyncio.Event()

    def cancel(self) -> None:
        """Ask the server to cancel the command; its end still comes, mostly as `CommandCancelled`."""
        if not self._result.done():
            self._cancel()

    def done(self) -> bool:
        """Return whether the command has ended."""
        return self._result.done()

    @property
    def progress(self) -> AsyncIterator[Step]:
        """What the handler reports, until the command ends, however it ends. One iteration takes each step."""
        return self._taken(self._steps)

    @property
    def outcomes(self) -> AsyncIterator[dict[str, Any]]:
        """For a list of targets: the outcome of each agent as it ends, `{agentId, status, result or message, code}`.

        It ends with the command, however that ends. One iteration takes each outcome; the result has them all.
        """
        return self._taken(self._outcomes)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        try:
            return await asyncio.shield(self._result)
        except asyncio.CancelledError:
            self.cancel()
            self._result.add_done_callback(asyncio.Future.exception)  # nobody will ask for it
            raise

    async def _taken(self, items: deque[Item]) -> AsyncIterator[Item]:
        while True:
            while items:
                yield items.popleft()
            if self._result.done():
                return
            moved = self._moved  # of this turn: several iterations may wait
            await moved.wait()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    # The client's side.

    def report(self, agent: str | None, data: Any) -> None:
        self._steps.append(Step(agent, data))
        self._move()

    def end(self, outcome: dict[str, Any]) -> None:
        self._outcomes.append(outcome)
        self._move()

    def settle(self, result: Any, error: NexusError | None) -> None:
        if error is None:
            self._result.set_result(result)
        else:
            self._result.set_exception(error)
        self._move()
