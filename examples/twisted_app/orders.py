"""The application's own part: orders, which clients of Nexus place and list by commands, and a web page shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Request

from nexus_tw.interfaces.plugins import Invoked
from nexus_tw.model.errors import NexusError

Publish = Callable[[str, Any], Awaitable[Any]]
MOST = 10_000  # orders kept


class Orders:
    """All orders, in memory. Its methods are handlers of commands."""

    def __init__(self, publish: Publish) -> None:
        """`publish(event_type, data)` tells everybody who has subscribed."""
        self._publish = publish
        self.placed: list[dict[str, Any]] = []

    async def place(self, call: Invoked) -> dict[str, Any]:
        """`order.place {"item": …}`: return the order, after it was announced as `order.placed`."""
        item = call.parameters.get("item") if isinstance(call.parameters, dict) else None
        if not isinstance(item, str) or not item:
            raise NexusError("invalid_message", "`item` must be a text")
        if len(self.placed) >= MOST:
            raise NexusError("limit_exceeded", f"there are {MOST} orders already")
        order = {"number": len(self.placed) + 1, "item": item, "by": call.caller.subject}
        self.placed.append(order)
        call.progress({"number": order["number"]})
        await self._publish("order.placed", order)
        return order

    def list(self, _call: Invoked) -> list[dict[str, Any]]:
        """`order.list`: return all orders, oldest first."""
        return self.placed


class OrdersPage(Resource):
    """How many orders there are, for people."""

    isLeaf = True

    def __init__(self, orders: Orders) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self._orders = orders

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return f"{len(self._orders.placed)} orders\n".encode()
