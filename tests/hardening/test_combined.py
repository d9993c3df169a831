"""What one subject can combine: subscriptions, filters, patterns, events, commands and telemetry as large as they may be, from
several connections of which some never read. Everything is counted, nothing is timed.

Single products of limits are in `test_products.py`; the same by the clock of CPUs is `python -m bench harm`.
"""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from twisted.internet.defer import ensureDeferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

from nexus_tw.model.filters import Facts
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import DEFAULT_REALM, Limits, Role
from nexus_tw.pubsub import order
from tests.client import Client
from tests.conftest import LONG
from tests.node import Node, Nodes, clock, turns, until, with_roles

HOSTILE = 3  # clients
LIMITS = Limits(
    message=32768,
    send_queue=65536,
    send_queues=1_000_000,
    filters=128,
    filters_all=1024,
    subscriptions=16,
    agents_all=20,
    commands=400,
    pending=100,
)
SHARE = LIMITS.share
ALL = Role(subscribe=("**",), publish=("**",), call=("**",), register=("**",), telemetry=("**",))

sizes = st.sampled_from([1, 20000])
counts = st.sampled_from([1, 30, 100])
depths = st.sampled_from([1, 2, 30])
who = st.integers(0, HOSTILE - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("subscribe"), who, counts, depths),
        st.tuples(st.just("publish"), who, sizes, depths),
        st.tuples(st.just("command"), who, counts, sizes),
        st.tuples(st.just("telemetry"), who, counts, sizes),
        st.tuples(st.just("register"), who, counts, depths),
        st.tuples(st.just("deaf"), who, counts, sizes),
    ),
    max_size=20,
)


def message(kind: str, first: int, second: int) -> dict[str, Any]:
    """Return the message for a step; the numbers are those of its tuple."""
    dotted = ".".join("a" * second) if second < 100 else "a"
    if kind == "subscribe":
        conditions = {f"{dotted}.n{number}": {"ne": number} for number in range(min(first, 60))}
        return {"events": ["**", *(f"{dotted}.{number}.*" for number in range(min(first, 10)))], "filters": conditions}
    if kind == "publish":
        data: Any = "x" * first
        for _ in range(min(second, 25)):
            data = {"a": data, "n1": data[:10] if isinstance(data, str) else 1}
        return {"eventType": dotted, "data": data}
    if kind == "command":
        targets = [f"absent-{number}" for number in range(first)]
        return {"command": "work", "target": targets, "parameters": "x" * second, "ttl": 60}
    if kind == "telemetry":
        return {"agentId": f"agent-{first}", "metrics": {"m": "x" * second}}
    return {"agentId": f"agent-{first}", "commands": [f"{dotted}.{number}" for number in range(first)]}


class Bystander:
    """Another subject, with an agent of its own; every request of it is answered in kind."""

    def __init__(self, client: Client, agent: Client) -> None:
        self._client = client
        self._agent = agent

    @classmethod
    async def of(cls, node: Node) -> Bystander:
        client, agent = await node.client("bystander-token"), await node.client("bystander-token")
        await client.subscribe("well")
        assert (await agent.ask(type="register", agentId="well", commands=["well"]))["type"] == "registered"
        return cls(client, agent)

    async def check(self) -> None:
        assert (await self._client.ask(type="publish", eventType="well", data=1))["type"] == "published"
        assert (await self._client.expect("event"))["eventType"] == "well"
        self._client.send(type="command", command="well", target="well", id=7)
        command = await self._agent.expect("command")
        self._agent.send(type="command_result", commandId=command["commandId"], data=None)
        assert (await self._client.expect("command_result"))["id"] == 7
        self._client.send(type="ping")
        await self._client.expect("pong")

    def leave(self) -> None:
        for client in (self._client, self._agent):
            client.drop()


class Work:
    """Counts the members of one event that filters had looked up, at the most."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = 0
        real = Facts.__missing__

        def missing(facts: Facts, name: str) -> Any:
            value = real(facts, name)
            self.most = max(self.most, len(facts))
            return value

        monkeypatch.setattr(Facts, "__missing__", missing)


def bounds(node: Node) -> None:
    """Nothing is beyond what one subject may have."""
    realm: Any = node.server.realms[DEFAULT_REALM]
    subscriptions, book = realm._subscriptions, realm._commands._book
    account = Principal("hostile", "hostile").account
    assert subscriptions._filters.of(account) <= LIMITS.filters_all * SHARE
    assert subscriptions._wildcards.of(account) <= HOSTILE * LIMITS.subscriptions * 11
    assert book._counts.of(account) <= LIMITS.commands * SHARE
    assert subscriptions.lines.held.of(account) <= order.ALL_BYTES * SHARE
    assert realm._presence._agents.of(account) <= LIMITS.agents_all * SHARE
    # What one message has told may be more than what there was left.
    assert node.server.connections.backlog.bytes <= LIMITS.send_queues + 8 * LIMITS.send_queue


async def play(node: Node, work: Work, story: list[tuple[Any, ...]]) -> None:
    bystander = await Bystander.of(node)
    hostile = [await node.client("hostile-token") for _ in range(HOSTILE)]
    for kind, number, first, second in story:
        client = hostile[number]
        if kind == "deaf":
            client.wire.transport.pauseProducing()
            continue
        if client.wire.over:
            hostile[number] = client = await node.client("hostile-token")
        client.send(type=kind, **message(kind, first, second))
        await bystander.check()
        bounds(node)
    await bystander.check()
    for client in hostile:
        client.drop()
    await node.connected(2)
    await turns()
    await bystander.check()
    realm: Any = node.server.realms[DEFAULT_REALM]
    assert realm._subscriptions._filters.taken == 0
    await until(lambda: node.server.connections.backlog.bytes == 0)
    bystander.leave()
    await node.connected(0)
    await until(lambda: not node.left())
    assert realm._subscriptions._wildcards.taken == 0
    assert work.most <= LIMITS.filters_all * SHARE


@pytest_twisted.ensureDeferred
async def test_whatever_hostile_clients_combine_at_their_limits_is_bounded_and_hurts_nobody_else(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    node: Node = await nodes(replace(with_roles(hostile=ALL, bystander=ALL), limits=LIMITS))
    work = Work(monkeypatch)

    def played(story: list[tuple[Any, ...]]) -> Any:
        return ensureDeferred(play(node, work, story))

    @settings(max_examples=200 if LONG else 15)
    @given(steps)
    def each(story: list[tuple[Any, ...]]) -> None:
        # Hypothesis calls and waits, which the reactor's own thread cannot.
        blockingCallFromThread(clock, played, story)

    await deferToThread(each)
    assert work.most > 0
