"""A node inside the test's process, its clients over real sockets, and a log that must stay free of errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import provider

from nexus_tw.model.settings import Settings
from tests.client import Client, handshake
from tests.node import TOKEN, Node, Nodes
from tests.wamp.peer import FEATURES, ROLES, SERIALIZERS, Peer

ABLE = (*FEATURES["callee"], "progressive_call_invocations")


class Place:
    """One node and its addresses."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def connect(self, serializer: str = "json", token: str | None = TOKEN) -> Peer:
        """Return an open WebSocket on which nothing has been sent."""
        chosen = SERIALIZERS[serializer]
        wire = await self.node.wire(handshake("/ws", token, [chosen.protocol]))
        response = await wire.response()
        assert response.status == 101, response
        return Peer(Client(wire, response), chosen)

    async def join(
        self,
        realm: str = "nexus",
        token: str | None = TOKEN,
        serializer: str = "json",
        callee: tuple[str, ...] = ABLE,
        **details: Any,
    ) -> Peer:
        """Return a client that has received WELCOME; `callee` has its features as a callee."""
        peer = await self.connect(serializer, token)
        roles = {**ROLES, "callee": {"features": dict.fromkeys(callee, True)}}
        return await peer.join(realm, roles=roles, **details)


class Places:
    """Makes nodes, like `tests.node.Nodes`."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    async def __call__(self, settings: Settings | None = None, **words: Any) -> Place:
        return Place(await self._nodes(settings, **words))


@pytest_twisted.async_yield_fixture
async def places(tmp_path: Any) -> Any:
    nodes = Nodes(tmp_path)
    yield Places(nodes)
    await nodes.stop()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Check that no client causes an error of the server."""
    faults: list[LogEvent] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_failure") is not None or event["log_level"] is LogLevel.critical:
            faults.append(event)

    globalLogPublisher.addObserver(observe)
    yield
    globalLogPublisher.removeObserver(observe)
    assert not faults
