"""Tests that are coroutines of asyncio. They block the tests' reactor: the servers are processes, or run in the same loop."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.clients.model import Server, Session
from tests.e2e.server import NexusServer, answers

PATIENCE = 20.0  # s for anything that a test waits for, on a busy machine


class _Complaints(logging.Handler):
    """Keeps what asyncio says of tasks and futures whose failure nobody has seen."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


def looped(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run the test in a loop of its own. It fails as well if asyncio complains, or if a task is left."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        complaints = _Complaints()

        async def bounded() -> None:
            async with asyncio.timeout(60):
                await test(*arguments, **named)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"left behind: {left}"

        log = logging.getLogger("asyncio")
        log.addHandler(complaints)
        try:
            asyncio.run(bounded())
        finally:
            log.removeHandler(complaints)
        assert not complaints.found

    return run


async def until(true: Callable[[], Any], what: object = "") -> None:
    """Wait until `true()` is true."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


async def started(server: NexusServer) -> None:
    """Start a server, and wait for it within the loop."""
    server.launch()
    await until(lambda: answers(server.port))


async def within(awaitable: Awaitable[Any]) -> Any:
    """Await something that should happen soon."""
    async with asyncio.timeout(PATIENCE):
        return await awaitable


class Node:
    """The model of the server behind a real socket, for what a real server cannot be made to do at a chosen moment.

    Messages of a type in `mute` are received and not handled.
    """

    def __init__(self) -> None:
        self.model = Server(lambda name, data: None)
        self.peers: list[ServerConnection] = []
        self.received: list[dict[str, Any]] = []
        self.closes: list[int | None] = []
        self.mute: set[str] = set()
        self.http = ""

    async def serve(self, peer: ServerConnection) -> None:
        session = self.model.connect()
        self.peers.append(peer)
        try:
            await self.flush(peer, session)
            async for text in peer:
                message = json.loads(text)
                self.received.append(message)
                if message["type"] not in self.mute:
                    self.model.handle(session, message)
                await self.flush(peer, session)
        except ConnectionClosed:
            pass  # however it ended
        self.peers.remove(peer)
        self.closes.append(peer.close_code)

    async def flush(self, peer: ServerConnection, session: Session) -> None:
        while session.out:
            await peer.send(session.out.popleft())

    def cut(self) -> None:
        """Break all connections."""
        for peer in self.peers:
            peer.transport.abort()


@asynccontextmanager
async def node() -> AsyncIterator[Node]:
    """Give a node that listens on a free port of 127.0.0.1."""
    made = Node()

    silent = logging.getLogger("tests.node")
    silent.disabled = True
    listening = serve(made.serve, "127.0.0.1", 0, subprotocols=["nexus.v1.json"], ping_interval=None, logger=silent)  # type: ignore[list-item]
    async with listening as server:
        made.http = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield made
