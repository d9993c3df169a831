"""Requests are bounded also while a bus does not answer. Buses that hang are in `tests/bus/redis/test_bus.py`."""

from __future__ import annotations

import pytest_twisted

from tests.fakes import HandBus
from tests.node import Nodes, limited

MOST_WAITING = 256


@pytest_twisted.ensureDeferred
async def test_subscriptions_that_wait_for_the_bus_are_bounded_and_take_effect_in_order(nodes: Nodes) -> None:
    bus = HandBus()
    bus.confirms = False
    node = await nodes(limited(waiting=MOST_WAITING), bus=bus)
    client, other = await node.client(), await node.client()
    client.send(type="subscribe", events=["a"], id="first")
    for number in range(MOST_WAITING):
        client.send(type=("unsubscribe", "subscribe")[number % 2], events=["b" * 200], id=number)
    for type_, members in (("subscribe", {"events": ["c"]}), ("unsubscribe", {"events": ["c"]}), ("command", {"command": "x"})):
        refused = await client.ask(type=type_, **members)
        assert (refused["type"], refused["code"], refused["retryable"]) == ("error", "rate_limited", True)
        assert "256 messages of this connection wait" in refused["message"]
    assert (node.metrics.messages_queued, node.metrics.messages_refused) == (MOST_WAITING, 3)
    assert (await client.ask(type="ping"))["type"] == "pong", "a sign of life waits for nothing"
    assert (await other.ask(type="unsubscribe", events=["c"]))["type"] == "unsubscribed"
    bus.confirms = True
    bus.confirm()
    replies = [await client.receive() for _ in range(1 + MOST_WAITING)]
    assert [reply["id"] for reply in replies] == ["first", *range(MOST_WAITING)]
    assert (await client.ask(type="subscribe", events=["c"]))["type"] == "subscribed"
