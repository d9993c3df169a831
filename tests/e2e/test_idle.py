"""An agent behind nginx, and a page in a browser, that only listen: they stay connected. They began long before these tests."""

from __future__ import annotations

import time

import pytest
import pytest_twisted

from tests.e2e.clients import Clients
from tests.e2e.conftest import PAGES, Idle
from tests.e2e.server import until

AGENT = 100.0  # s; longer than any time-out between an agent and Nexus
PAGE = 150  # s; more than twice the heartbeat's time-out

# A process of pytest runs a file as one, so these tests have a file of their own.
pytestmark = pytest.mark.last


@pytest_twisted.ensureDeferred
async def test_an_agent_that_was_idle_for_100_s_is_still_connected(idle_process: Idle, clients: Clients) -> None:
    await until(idle_process.said, 30, "for the idle agent")
    opened = idle_process.said()[0]
    assert opened["event"] == "open", idle_process.agent.output
    # Counted by the agent's process, which may have begun long before this test.
    await until(lambda: time.monotonic() - idle_process.began > AGENT + opened["at"], AGENT + 30)
    assert len(idle_process.said()) == 1, idle_process.agent.output
    assert idle_process.agent.running
    await (await clients.connect(idle_process.server)).publish("idle.end", "wake up")
    await until(lambda: len(idle_process.said()) > 1, 10, "for the event")
    assert (idle_process.said()[1]["event"], idle_process.said()[1]["data"]) == ("event", "wake up")


@pytest_twisted.ensureDeferred
async def test_a_page_that_sent_nothing_for_150_s_is_still_connected_and_hears_an_event(
    idle_process: Idle, clients: Clients
) -> None:
    tab = await idle_process.browser.tab()
    # Counted by the page, which may have begun long before this test.
    idle = f"({(PAGES / 'sleep.js').read_text()})({PAGE})"
    assert await tab.evaluate(idle, PAGE + 30) == {"closed": None, "events": []}, idle_process.server.output
    await (await clients.connect(idle_process.server)).publish("idle.page", "wake up")
    assert await tab.evaluate("heard") == "wake up"
    assert await tab.evaluate("seen.closed") is None
