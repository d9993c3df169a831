"""Health, metrics and the start page."""

from __future__ import annotations

import platform
import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest
import pytest_twisted
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

import nexus_tw
from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.model import errors
from nexus_tw.model.errors import ERRORS, Close
from nexus_tw.model.metrics import LABELS, Metrics
from nexus_tw.model.settings import Http, Role, Settings
from tests.client import Response
from tests.node import TOKEN, Nodes, clock, with_roles

# As Prometheus 3 asks.
PROMETHEUS = (
    "Accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,*/*;q=0.2"
)


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
async def test_metrics_are_a_right_of_their_own_which_an_admin_has_too(nodes: Nodes) -> None:
    roles = with_roles(prometheus=Role(metrics=True), chief=Role(admin=True), agent=Role(subscribe=("**",), read=("**",)))
    node = await nodes(roles)
    for name, status in (("prometheus", 200), ("chief", 200), ("agent", 403)):
        response = await node.http("GET", "/metrics", f"{name}-token")
        assert response.status == status, name
    assert (response.json["code"], response.json["detail"]) == ("forbidden", "Not allowed to read the metrics")
    broadcast = await node.http("POST", "/api/v1/broadcast", "prometheus-token", b'{"data": 1}')
    assert broadcast.status == 403, "it is a right to read metrics and nothing else"


@pytest_twisted.ensureDeferred
async def test_labelled_counters_start_at_0(nodes: Nodes) -> None:
    first = samples(await (await nodes()).http("GET", "/metrics"))
    for name, (_label, values) in LABELS.items():
        for value in values:
            assert first[f"nexus_{name}_total[{value}]"] == 0, (name, value)
    assert {code for code in ERRORS if f"nexus_errors_total[{code}]" in first} == set(ERRORS)
    closes = [close.code for close in vars(errors).values() if isinstance(close, Close)]
    assert closes and all(f"nexus_connections_closed_total[{code}]" in first for code in closes)
    counters = {each.name for each in fields(Metrics) if isinstance(getattr(Metrics(), each.name), Counter)}
    assert counters == LABELS.keys()


def test_what_is_counted_under_a_fixed_label_starts_at_0() -> None:
    """Each label value that is written out where a counter is raised."""
    sources = [path.read_text() for path in Path(nexus_tw.__file__).parent.rglob("*.py")]
    raised = {found for source in sources for found in re.findall(r"metrics\.(\w+)\[\"(\w+)\"\] \+= ", source)}
    assert len(raised) > 5
    for name, value in raised:
        assert value in LABELS[name][1], (name, value)


@pytest_twisted.ensureDeferred
async def test_nexus_build_info_says_what_runs(nodes: Nodes) -> None:
    shown = samples(await (await nodes()).http("GET", "/metrics"))
    assert shown[f"nexus_build_info[{platform.python_version()}][{nexus_tw.__version__}]"] == 1


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
        "nexus_history_types": 3,  # a.b, telemetry.received and agent.status
        "nexus_history_events": 3,
    }.items():
        assert after[name] - before.get(name, 0) == count, name
    assert after["nexus_messages_received_total"] >= 5
    assert after["nexus_events_published_total"] >= 2
    assert after["nexus_history_bytes"] > 0
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
    counted = {name for name, value in samples(response).items() if name.startswith("nexus_connections_closed_total") and value}
    assert counted == {"nexus_connections_closed_total[3000]"}


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


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ([], "text/plain; version=0.0.4"),
        (["Accept: */*"], "text/plain; version=0.0.4"),
        (["Accept: text/html"], "text/plain; version=0.0.4"),
        (["Accept: text/plain; version=0.0.4"], "text/plain; version=0.0.4"),
        (["Accept: application/openmetrics-text"], "application/openmetrics-text; version=1.0.0"),
        (["Accept: text/html", "Accept: application/openmetrics-text"], "application/openmetrics-text; version=1.0.0"),
        (["Accept: application/openmetrics-text;version=7.evil"], "text/plain; version=0.0.4"),
        (["Accept: text/plain; version=evil"], "text/plain; version=0.0.4"),
        (["Accept: text/plain;version=1.0.0;escaping=evil"], "text/plain; version=1.0.0"),
        ([PROMETHEUS], "application/openmetrics-text; version=1.0.0"),
    ],
)
async def test_metrics_come_in_the_format_that_accept_asks_for(nodes: Nodes, accept: list[str], content_type: str) -> None:
    node = await nodes()
    response = await node.http("GET", "/metrics", headers=accept)
    assert response.status == 200
    assert response.headers["content-type"].startswith(content_type)
    assert "evil" not in response.headers["content-type"]
    text = response.body.decode()
    openmetrics = content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n") == openmetrics
    read = parse_openmetrics if openmetrics else text_string_to_metric_families
    assert "nexus_connections" in {family.name for family in read(text)}
