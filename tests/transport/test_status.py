"""Health, metrics and the start page."""

from __future__ import annotations

import pytest
import pytest_twisted
from prometheus_client.parser import text_string_to_metric_families

from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.settings import Http, Settings
from tests.client import Response
from tests.node import TOKEN, Nodes, clock


def samples(response: Response) -> dict[str, float]:
    """The samples of a scrape, by name and labels."""
    assert response.status == 200
    assert response.headers["content-type"].startswith("text/plain")
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.body.decode())
        for sample in family.samples
    }


@pytest_twisted.ensureDeferred
async def test_health_is_open_to_everybody(nodes: Nodes) -> None:
    node = await nodes()
    assert (await node.http("GET", "/health/live", None)).json == {"status": "live"}
    assert (await node.http("GET", "/health/ready", None)).json == {"status": "ready"}


@pytest_twisted.ensureDeferred
async def test_a_node_whose_bus_is_away_lives_but_is_not_ready(nodes: Nodes) -> None:
    bus = MemoryBus(MemoryBroker(clock), "away")
    node = await nodes(bus=bus)
    bus.available = False
    response = await node.http("GET", "/health/ready", None)
    assert (response.status, response.json["reason"]) == (503, "the event bus is away")
    assert (await node.http("GET", "/health/live", None)).status == 200
    bus.available = True
    assert (await node.http("GET", "/health/ready", None)).status == 200


@pytest_twisted.ensureDeferred
async def test_metrics_need_an_admin_unless_they_are_open(nodes: Nodes) -> None:
    assert (await (await nodes()).http("GET", "/metrics", None)).status == 401
    node = await nodes(Settings(http=Http(metrics_open=True)))
    assert (await node.http("GET", "/metrics", None)).status == 200


@pytest_twisted.ensureDeferred
async def test_metrics_count_what_happens(nodes: Nodes) -> None:
    node = await nodes()
    before = samples(await node.http("GET", "/metrics"))
    assert before["nexus_connections"] == 0
    assert before["nexus_ready"] == before["nexus_bus_available"] == 1
    one, two = await node.client(), await node.client()
    await one.subscribe("a.b")
    await two.subscribe("a.*")
    await one.ask(type="publish", eventType="a.b", data=1)
    await one.expect("event")
    await two.expect("event")
    await one.ask(type="telemetry", agentId="a", metrics={"x": 1})
    await one.ask(type="nonsense")
    await node.refusal(target="/nowhere")
    two.leave()
    await node.connected(1)
    after = samples(await node.http("GET", "/metrics"))
    assert after["nexus_connections"] == 1
    for name, count in {
        "nexus_connections_opened_total": 2,
        "nexus_connections_closed_total[1000]": 1,
        "nexus_refusals_total[404]": 1,
        "nexus_errors_total[unknown_type]": 1,
        "nexus_telemetry_stored_total": 1,
        "nexus_events_delivered_total": 2,
    }.items():
        assert after[name] - before.get(name, 0) == count, name
    assert after["nexus_messages_received_total"] >= 5
    assert after["nexus_events_published_total"] >= 2
    assert after["process_resident_memory_bytes"] > 0


@pytest_twisted.ensureDeferred
async def test_no_label_holds_anything_that_a_client_chose(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    await client.ask(type="made-up-by-a-client")
    await client.subscribe("made-up.by-a.client")
    await client.ask(type="command", command="made-up.by-a.client")
    for private in (3456, 4999):
        (await node.client()).leave(private)
    await node.connected(1)
    response = await node.http("GET", "/metrics")
    assert "made-up" not in response.body.decode()
    assert TOKEN not in response.body.decode()
    assert [name for name in samples(response) if name.startswith("nexus_connections_closed_total")] == [
        "nexus_connections_closed_total[1000]"
    ]


@pytest_twisted.ensureDeferred
async def test_the_start_page_is_open_and_loads_nothing_from_elsewhere(nodes: Nodes) -> None:
    node = await nodes()
    page = await node.http("GET", "/", None)
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert b"Nexus" in page.body and b"http://" not in page.body and b"https://" not in page.body


@pytest_twisted.ensureDeferred
async def test_the_start_page_can_be_left_out(nodes: Nodes) -> None:
    node = await nodes(Settings(http=Http(dashboard=False)))
    assert (await node.http("GET", "/", None)).status == 404


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("target", ["/health/live?x=1", "/health/live?"])
async def test_a_query_changes_no_address(nodes: Nodes, target: str) -> None:
    node = await nodes()
    assert (await node.http("GET", target, None)).status == 200
