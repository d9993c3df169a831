"""Clients that come, do everything once and go. What the node's tables hold is looked at after each test by `tests/node.py`;
here it is everything that Python knows of, so that nothing is held by a way that nobody thought of."""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any
from weakref import ref

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.protocol import Factory

from tests.client import CLOSE, Wire, frame, greeted, handshake
from tests.node import TOKEN, Node, Nodes, limited, turns

TIMES = 100
REMEMBERED = 200  # events that Twisted's log keeps until somebody begins to observe it, each with the connection it is about
WIRES = Factory.forProtocol(Wire)
SPARE = TIMES // 2  # objects of one kind that may be there for other reasons; a leak makes one for each client at least


async def dial(node: Node, data: bytes) -> Wire:
    # Not by `connectProtocol`, which makes a class for each connection.
    connected: Any = node.here.connect(WIRES)
    wire: Wire = await connected
    wire.write(data)
    return wire


async def visit(node: Node, number: int) -> None:
    client = await greeted(await dial(node, handshake(token=TOKEN)))
    await client.subscribe("a.*", "**", filters={"n": {"gt": 1}})
    await client.ask(type="publish", eventType="a.b", data={"n": 2})
    await client.ask(type="register", commands=["deploy"], agentId="agent-1")
    await client.ask(type="telemetry", agentId="agent-1", metrics={"cpu": 1})
    client.send(type="command", command="deploy", commandId=f"c-{number}")
    client.send(type="command", command="nobody", ttl=60)
    client.send_text("{")
    if number % 3 == 0:
        client.drop()
    elif number % 3 == 1:
        client.leave()
        await client.closed()
    else:
        client.write(frame(CLOSE, b"x"))
        await client.closed()
    refused = await dial(node, b"GET / HTTP/1.1\r\n\x0b\r\n\r\n")
    await refused.rest()
    await node.connected(0)


async def forget_cancelled_calls() -> None:
    """Twisted keeps cancelled calls until they are due, or more than fifty and more than half of all."""
    calls: Any = reactor
    for _ in range(100 + len(calls.getDelayedCalls())):
        calls.callLater(3600, turns).cancel()
    await turns()


async def population(node: Node, first: int) -> Counter[str]:
    for number in range(first, first + TIMES):
        await visit(node, number)
    await forget_cancelled_calls()
    gc.collect()
    return Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects() if not is_dead(thing))


def is_dead(thing: object) -> bool:
    """Return whether this is a weak reference to nothing: each connection of `sqlite3` keeps those of its last 200 cursors."""
    return type(thing) is ref and thing() is None


@pytest_twisted.ensureDeferred
async def test_of_clients_that_have_gone_nothing_is_left(nodes: Nodes) -> None:
    node = await nodes(limited(commands=8))
    for first in range(0, REMEMBERED, TIMES):
        await population(node, first)  # what is there once for all
    before = await population(node, REMEMBERED)
    after = await population(node, REMEMBERED + TIMES)
    assert {name: more for name, more in (after - before).items() if more > SPARE} == {}
