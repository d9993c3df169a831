"""A node inside the test's process, clients of it over real sockets, and a log in which nothing may have gone wrong."""

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
    """One node and how to get there."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def connect(self, serializer: str = "json", token: str | None = TOKEN) -> Peer:
        """An open WebSocket on which nothing was said yet."""
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
        """A client that was welcomed; `callee` is what it can do as one."""
        peer = await self.connect(serializer, token)
        roles = {**ROLES, "callee": {"features": dict.fromkeys(callee, True)}}
        return await peer.join(realm, roles=roles, **details)


class Places:
    """Makes nodes, as `tests.node.Nodes` does."""

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
    """Whatever clients do, nothing of it is a fault of the server's."""
    faults: list[LogEvent] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_failure") is not None or event["log_level"] is LogLevel.critical:
            faults.append(event)

    globalLogPublisher.addObserver(observe)
    yield
    globalLogPublisher.removeObserver(observe)
    assert not faults
