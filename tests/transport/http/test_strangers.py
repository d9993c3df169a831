"""The log about pages of other origins, whose browsers do not report why they were refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from nexus_tw.model.quoting import LONGEST
from nexus_tw.transport.http.strangers import MOST, QUIET, Strangers
from tests.client import handshake
from tests.node import TOKEN, Nodes


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The lines of the log that name the setting."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        text = formatEvent(event)
        if "http.origins" in text:
            assert event["log_level"].name == "info"
            lines.append(text)

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    yield lines
    globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_a_first_page_in_a_browser_that_is_refused_is_named_with_the_setting_once(nodes: Nodes, said: list[str]) -> None:
    node = await nodes()
    for _ in range(3):
        assert (await node.refusal(token=TOKEN, headers=["Origin: http://localhost:5173"])).status == 403
        assert (await node.http("GET", "/health/live", headers=["Origin: http://localhost:5173"])).status == 403
    assert (await (await node.wire(handshake(headers=["Origin: null"]))).response()).status == 403
    await node.client(headers=["Origin: http://localhost"])
    assert [line.split()[6].rstrip(":") for line in said] == ["http://localhost:5173", "null"]
    assert all("localhost; list it in http.origins" in line and TOKEN not in line for line in said)
    assert node.metrics.connections_refused["origin"] == 7


def test_the_same_origin_is_named_once_a_minute(said: list[str]) -> None:
    clock = Clock()
    strangers = Strangers(clock)
    for _ in range(10):
        strangers.refused("http://a.example", "nexus.example")
        clock.advance(QUIET / 5)
    assert len(said) == 2


def test_any_number_of_origins_makes_a_bounded_number_of_lines_of_bounded_length(said: list[str]) -> None:
    clock = Clock()
    strangers = Strangers(clock)
    for number in range(MOST * 3):
        strangers.refused(f"http://{number}.example" + "x" * 10000, "y" * 10000)
    assert len(said) == len(strangers._told) == MOST
    assert max(map(len, said)) < 2 * LONGEST + 200
    clock.advance(QUIET)
    strangers.refused("http://a.example", "nexus.example")
    assert (len(said), len(strangers._told)) == (MOST + 1, 1)
