"""The reader does not pay for the writer: whatever one client has others told in one burst, those who read stay connected.

The judgement of one queue is in `tests/transport/test_backlog.py`, who never reads in `test_slow_readers.py`.
"""

from __future__ import annotations

import pytest_twisted

from tests.client import Client
from tests.node import Node, Nodes, limited, small_buffers, until


async def narrow(node: Node, event: str = "a.b") -> Client:
    """A client on a socket that takes little at once, subscribed to this."""
    known = set(node.transports())
    client = await node.client()
    (transport,) = set(node.transports()) - known
    small_buffers(client.wire, transport)
    await client.subscribe(event)
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
async def test_thousands_of_agents_that_go_with_one_connection_close_no_watcher(nodes: Nodes) -> None:
    node = await nodes(limited(send_queue=8192, message=4096))
    watcher, gateway = await narrow(node, "agent.status"), await node.client()
    for number in range(2000):
        gateway.send(type="telemetry", agentId=f"a{number}", metrics={"x": 1})
        if number % 50 == 49:
            for _ in range(50):
                await watcher.expect("event")
    gateway.drop()
    offline = [(await watcher.expect("event"))["data"] for _ in range(2000)]
    assert [data["agentId"] for data in offline if data["status"] == "offline"] == [f"a{number}" for number in range(2000)]
    assert node.metrics.connections_closed[4001] == 0


@pytest_twisted.ensureDeferred
async def test_commands_to_a_thousand_targets_close_no_watcher_and_not_their_caller(nodes: Nodes) -> None:
    node = await nodes(limited(send_queue=65536, message=16384))
    watcher, caller = await narrow(node, "task.updated"), await node.client()
    targets = [f"a{number}" for number in range(1000)]
    for number in range(4):
        caller.send(type="command", command="none", target=targets, commandId=f"c{number}")
    for _ in range(4 * 1001):
        assert (await watcher.expect("event"))["data"]["status"] in ("failed", "completed")
    for _ in range(4 * 1001):
        await caller.expect("command_result")
    assert node.metrics.connections_closed == {}


@pytest_twisted.ensureDeferred
async def test_commands_faster_than_an_agent_reads_are_refused_or_wait_and_do_not_close_it(nodes: Nodes) -> None:
    node = await nodes(limited(send_queue=65536, message=32768))
    agent, caller, watcher = await narrow(node), await node.client(), await node.client()
    await agent.ask(type="register", commands=["deploy"], agentId="a")
    await watcher.subscribe("task.updated")
    agent.wire.transport.pauseProducing()
    filling = "x" * 20000
    for number in range(50):
        caller.send(type="command", command="deploy", target="a", commandId=f"now{number}", parameters={"x": filling})
        caller.send(type="command", command="deploy", target="a", commandId=f"later{number}", parameters={"x": filling}, ttl=60)
    refused: set[str] = set()
    taken: set[str] = set()
    while len(refused) + len(taken) < 100:
        for error in await caller.heard():
            assert (error["code"], error["retryable"]) == ("rate_limited", True)
            refused.add(error["commandId"])
        taken.update(event["data"]["taskId"] for event in await watcher.heard())
    assert not refused & taken and all(name.startswith("now") for name in refused)
    assert node.server.connections.backlog.bytes <= 65536 + 32768
    agent.wire.transport.resumeProducing()
    given: set[str] = set()
    while len(given) < len(taken):  # also the others that were accepted
        given.add((await agent.expect("command"))["commandId"])
    assert given == taken
    assert node.metrics.connections_closed == {}
