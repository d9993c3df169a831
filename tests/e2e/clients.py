"""Clients of the servers under test, as their users write them: `nexus_client` for Twisted.

For tests of what users get. Tests of frames, close codes and connections that must not come back are written with
`tests.e2e.agent`, or with `tests.client` where the bytes themselves matter.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nexus_client.events import Event, Gap
from nexus_client.twisted import Call, Nexus
from twisted.internet.defer import Deferred, DeferredQueue, gatherResults
from twisted.internet.ssl import Certificate, optionsForClientTLS

from tests.e2e.server import NexusServer, clock

PATIENCE = 10  # s for what a client does


class Events:
    """What a client has subscribed to, one item after the other."""

    def __init__(self) -> None:
        self._items: DeferredQueue[Event | Gap] = DeferredQueue()
        self.take = self._items.put

    async def item(self, seconds: float = PATIENCE) -> Event | Gap:
        """Wait for the next event, or for the word that some may be missing."""
        return await self._items.get().addTimeout(seconds, clock)

    async def next(self, seconds: float = PATIENCE) -> Event:
        """Wait for the next event. Fail if some may be missing before it."""
        item = await self.item(seconds)
        assert isinstance(item, Event), item
        return item

    async def past_gaps(self, seconds: float = PATIENCE) -> Event:
        """Wait for the next event, whatever is missing before it."""
        while isinstance(item := await self.item(seconds), Gap):
            pass
        return item


async def listen(client: Nexus, *patterns: str, **options: Any) -> Events:
    """Subscribe; return once the server has accepted it. `options` are those of `Nexus.subscribe`."""
    events = Events()
    await client.subscribe(patterns, events.take, **options).accepted().addTimeout(PATIENCE, clock)
    return events


class Orders:
    """The calls of a command, which a test answers itself."""

    def __init__(self) -> None:
        self._orders: DeferredQueue[Order] = DeferredQueue()

    def handle(self, call: Call, **parameters: Any) -> Deferred[Any]:
        order = Order(call, parameters)
        self._orders.put(order)
        return order.result

    async def next(self, seconds: float = PATIENCE) -> Order:
        return await self._orders.get().addTimeout(seconds, clock)


class Order:
    """One call of a command. Its caller is told `result`."""

    def __init__(self, call: Call, parameters: dict[str, Any]) -> None:
        self.progress = call.progress
        self.parameters = parameters
        self.result: Deferred[Any] = Deferred()


class Clients:
    """Makes clients, and closes them at the end."""

    def __init__(self) -> None:
        self._made: list[Nexus] = []

    async def connect(
        self,
        url: str | NexusServer,
        token: str | None = None,
        *,
        agent: str | None = None,
        authority: Path | None = None,
        commands: dict[str, Callable[..., Any]] | None = None,
    ) -> Nexus:
        """Return a client that is connected and has registered its commands. `authority` is whose certificates it trusts."""
        if isinstance(url, NexusServer):
            token = token or url.token
            url = url.http
        tls = None
        if authority is not None:
            tls = optionsForClientTLS("localhost", trustRoot=Certificate.loadPEM(authority.read_bytes()))
        client = Nexus(clock, url, token=token, agent=agent, tls=tls)
        self._made.append(client)
        for name, handler in (commands or {}).items():
            client.command(name)(handler)
        client.startService()
        await client.connected().addTimeout(PATIENCE, clock)
        if commands:
            # The server answers in order, and a client registers before it subscribes.
            await listen(client, "nobody.publishes.this")
        return client

    async def leave(self) -> None:
        """Close all of them at once, whether their servers still run or not."""
        await gatherResults([client.close(timeout=0) for client in self._made if client.running])
