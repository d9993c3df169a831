"""Tests of the handlers: alone with a call of our own, and over a socket from a client to a server in this process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from nexus_client.errors import CommandError
from nexus_client.twisted import Nexus
from orders import Orders
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from nexus_tw.app.embedded import NexusService
from nexus_tw.model.errors import NexusError


class Call(SimpleNamespace):
    """What a handler gets, as far as ours use it; what it reports is kept."""

    def __init__(self, parameters: Any, subject: str = "alice") -> None:
        super().__init__(parameters=parameters, caller=SimpleNamespace(subject=subject), reported=[])

    def progress(self, data: Any) -> None:
        self.reported.append(data)


class Announced:
    """In the place of `NexusService.publish`."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    async def __call__(self, event_type: str, data: Any) -> None:
        self.events.append((event_type, data))


@pytest_twisted.ensureDeferred
async def test_an_order_is_kept_announced_and_returned() -> None:
    announced = Announced()
    orders, call = Orders(announced), Call({"item": "tea"})
    order = await orders.place(call)
    assert order == {"number": 1, "item": "tea", "by": "alice"}
    assert announced.events == [("order.placed", order)]
    assert call.reported == [{"number": 1}]
    assert orders.list(Call(None)) == [order]


@pytest_twisted.ensureDeferred
async def test_an_order_without_an_item_is_refused() -> None:
    announced = Announced()
    with pytest.raises(NexusError, match="`item` must be a text"):
        await Orders(announced).place(Call({}))
    assert announced.events == []


@pytest_twisted.ensureDeferred
async def test_a_client_places_an_order_over_the_network(tmp_path: Path) -> None:
    def publish(event_type: str, data: Any) -> Deferred[Any]:
        return service.publish(event_type, data)

    orders = Orders(publish)
    service = NexusService(
        reactor,
        listen=["tcp:0:interface=127.0.0.1"],
        store=f"sqlite:{tmp_path}/test.db",
        token="of-this-test",
        commands={"order.place": orders.place, "order.list": orders.list},
    )
    service.startService()
    await service.started()
    client = Nexus(reactor, f"http://127.0.0.1:{service.addresses[0].port}", token="of-this-test")
    client.startService()
    try:
        order = await client.call("order.place", {"item": "tea"})
        assert order == {"number": 1, "item": "tea", "by": "admin"}
        assert await client.call("order.list") == [order]
        with pytest.raises(CommandError, match="`item` must be a text"):
            await client.call("order.place", {"item": 7})
    finally:
        await client.stopService()
        await service.stopService()
