"""A client with nothing but its own telemetry cannot fill the disk."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
import pytest_twisted
from msgspec.structs import replace

from nexus_tw.model.settings import Auth, Key, Limits, Role, Settings
from tests.node import Nodes, with_roles

QUOTAS = {
    "telemetry_rate": (Limits(telemetry_rate=10), "rate_limited", "rate"),
    "telemetry_kept": (Limits(telemetry_kept=100), "limit_exceeded", "kept"),
}


@pytest.mark.parametrize("name", QUOTAS)
@pytest_twisted.ensureDeferred
async def test_own_telemetry_as_fast_as_it_goes_is_refused_by_the_quota_of_its_subject(name: str, nodes: Nodes) -> None:
    limits, code, quota = QUOTAS[name]
    keys = tuple(Key(each, "agent", f"sha256:{sha256(each.encode()).hexdigest()}") for each in ("agent-1", "agent-2"))
    node = await nodes(Settings(limits=limits, roles={"agent": Role(telemetry=("{subject}",))}, auth=Auth(keys=keys)))
    metrics = {"text": "x" * 70}  # 81 bytes
    agent, again, other = await node.client("agent-1"), await node.client("agent-1"), await node.client("agent-2")
    assert (await agent.ask(type="telemetry", agentId="agent-1", metrics=metrics))["type"] == "telemetry_ack"
    for client in (agent, again):  # it is the subject's, whatever connection it has
        refused = await client.ask(type="telemetry", agentId="agent-1", metrics=metrics)
        assert refused["code"] == code and f"limits.{name}" in refused["message"]
        assert refused["retryable"] is (code == "rate_limited")
    assert (await other.ask(type="telemetry", agentId="agent-2", metrics=metrics))["type"] == "telemetry_ack"
    assert node.metrics.telemetry_refused == {quota: 2}
    admin = await node.client()
    for _ in range(2):
        assert (await admin.ask(type="telemetry", agentId="agent-1", metrics=metrics))["type"] == "telemetry_ack"


@pytest.mark.parametrize("name", ["agent_telemetry_rate", "agent_telemetry_kept"])
@pytest_twisted.ensureDeferred
async def test_one_agent_of_a_gateway_leaves_room_for_the_others_of_its_subject(name: str, nodes: Nodes) -> None:
    code = "rate_limited" if name.endswith("rate") else "limit_exceeded"
    limits = Limits(agent_telemetry_rate=10) if code == "rate_limited" else Limits(agent_telemetry_kept=100)
    node = await nodes(replace(with_roles(gateway=Role(telemetry=("**",))), limits=limits))
    gateway, admin = await node.client("gateway-token"), await node.client()
    metrics = {"text": "x" * 70}  # 81 bytes
    assert (await gateway.ask(type="telemetry", agentId="loud", metrics=metrics))["type"] == "telemetry_ack"
    for client in (gateway, admin):  # it is the agent's, whoever reports for it
        refused = await client.ask(type="telemetry", agentId="loud", metrics=metrics)
        assert refused["code"] == code and f"limits.{name}" in refused["message"]
    assert (await gateway.ask(type="telemetry", agentId="quiet", metrics=metrics))["type"] == "telemetry_ack"
    assert node.metrics.telemetry_refused == {name.replace("telemetry_", ""): 2}


@pytest_twisted.ensureDeferred
async def test_what_is_refused_by_the_quota_takes_no_place_on_the_disk(nodes: Nodes, tmp_path: Path) -> None:
    settings = with_roles(agent=Role(telemetry=("{subject}",)))
    node = await nodes(replace(settings, limits=Limits(telemetry_kept=50_000, errors=0)))
    agent = await node.client("agent-token")

    async def sent(count: int) -> int:
        """Return the number of accepted samples of a kilobyte."""
        metrics = {"text": "x" * 1000}
        answers = [await agent.ask(type="telemetry", agentId="agent", metrics=metrics) for _ in range(count)]
        assert {answer.get("code") for answer in answers} <= {None, "limit_exceeded"}
        return sum(answer["type"] == "telemetry_ack" for answer in answers)

    def size() -> int:
        return sum(path.stat().st_size for path in tmp_path.glob("node-0.db*"))

    taken = await sent(100)
    with closing(sqlite3.connect(f"file:{tmp_path / 'node-0.db'}?mode=ro", uri=True)) as store:
        ((count, kept),) = store.execute("SELECT count(*), sum(length(metrics)) FROM samples")
    assert count == taken and 48_000 < kept <= 50_000
    full = size()
    assert await sent(200) == 0
    assert size() == full
