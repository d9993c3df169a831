"""The reader does not pay for the writer: whatever one client has others told in one burst, those who read stay connected.

The judgement of one queue is in `tests/transport/test_backlog.py`, who never reads in `test_slow_readers.py`.
"""

from __future__ import annotations

import json

import pytest_twisted

from nexus_tw.transport.backlog import HARD, Outbox
from tests.client import TEXT, Client, frame
from tests.node import Node, Nodes, limited, small_buffers, until


async def narrow(node: Node) -> Client:
    """A client on a socket that takes little at once, subscribed to `a.b`."""
    known = set(node.transports())
    client = await node.client()
    (transport,) = set(node.transports()) - known
    small_buffers(client.wire, transport)
    await client.subscribe("a.b")
    return client


@pytest_twisted.ensureDeferred
async def test_a_burst_past_the_queue_that_the_reader_takes_in_the_next_second_closes_nobody(nodes: Nodes) -> None:
    node = await nodes(limited(send_queue=65536, message=32768))
    reader, publisher = await narrow(node), await node.client()
    reader.wire.transport.pauseProducing()
    number = 0
    while node.server.connections.backlog.bytes < 3 * 65536:
        await publisher.ask(type="publish", eventType="a.b", data=[number, "x" * 20000])
        number += 1
    reader.wire.transport.resumeProducing()
    for expected in range(number):
        assert (await reader.expect("event"))["data"][0] == expected
    await until(lambda: node.server.connections.backlog.bytes == 0)
    assert node.metrics.connections_closed == {}


@pytest_twisted.ensureDeferred
async def test_who_does_not_take_it_is_closed_a_second_later(nodes: Nodes) -> None:
    node = await nodes(limited(send_queue=65536, message=32768))
    reader, publisher = await narrow(node), await node.client()
    reader.wire.transport.pauseProducing()
    while node.server.connections.backlog.bytes < 3 * 65536:
        await publisher.ask(type="publish", eventType="a.b", data="x" * 20000)
    await until(lambda: "nexus: hub" not in node.left())
    reader.wire.transport.resumeProducing()
    assert await reader.closed() == (4001, "Slow consumer")


@pytest_twisted.ensureDeferred
async def test_many_who_never_read_hold_what_there_is_for_all_and_those_who_do_are_not_dropped(nodes: Nodes) -> None:
    node = await nodes(limited(send_queue=1_000_000, send_queues=1_000_000, share=1))
    quick = await narrow(node)
    slow = [await narrow(node) for _ in range(10)]
    for client in slow:
        client.wire.transport.pauseProducing()
    backlog = node.server.connections.backlog
    for number in range(30):
        await quick.ask(type="publish", eventType="a.b", data=[number, "x" * 20000])
        assert (await quick.expect("event"))["data"][0] == number
        assert backlog.bytes <= 1_000_000
    await until(lambda: node.metrics.shares_refused["send_queues"] == node.metrics.connections_closed[4001])
    assert node.metrics.connections_closed[4001] > 0
    assert await quick.heard() == []


@pytest_twisted.ensureDeferred
async def test_an_answer_that_grows_in_one_turn_is_bounded_before_the_turn_ends(nodes: Nodes) -> None:
    """A command of many absent targets, asked for again and again in one segment: each time all their results."""
    node = await nodes(limited(send_queue=65536, message=32768))
    other, client = await node.client(), await node.client()
    targets = [f"agent-{number}" for number in range(900)]
    client.send(type="command", command="none", target=targets, commandId="c")
    for _ in range(901):
        await client.expect("command_result")
    backlog = node.server.connections.backlog
    queued: list[int] = []
    count = backlog.count

    def counted(outbox: Outbox) -> None:
        queued.append(outbox.waiting())
        count(outbox)

    backlog.count = counted  # type: ignore[method-assign]
    again = json.dumps({"type": "command", "command": "none", "target": targets, "commandId": "c"}).encode()
    client.write(frame(TEXT, again) * 100)
    assert await client.closed() == (4001, "Slow consumer")
    assert HARD * 65536 < max(queued) < (HARD + 3) * 65536, "at once, and no more than one message late"
    assert (await other.ask(type="ping"))["type"] == "pong"
