"""A real browser: which pages it may connect from, and that one which only listens stays connected."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import pytest_twisted

from tests.e2e.chromium import Chromium, Pages
from tests.e2e.clients import Clients
from tests.e2e.conftest import PAGES, Idle
from tests.e2e.server import NexusServer

IDLE = 150  # s; more than twice the heartbeat's time-out

Attempt = Callable[[str], Awaitable[str]]


@pytest_twisted.async_yield_fixture(scope="module")
async def attempt_from(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the outcome of a connection from a page: of `listed` or `unlisted` origin, or of the server's `own`."""
    directory = tmp_path_factory.mktemp("browser")
    listed, unlisted = Pages(PAGES), Pages(PAGES)
    server = NexusServer(directory, env={"NEXUS_HTTP__ORIGINS": listed.origin})
    chromium = Chromium(directory)
    chromium.launch()
    origins = {
        "listed": f"{listed.origin}/idle.html",
        "unlisted": f"{unlisted.origin}/idle.html",
        "own": f"{server.http}/health/live",
    }
    script = (PAGES / "attempt.js").read_text()
    try:
        await server.start()
        tab = await chromium.tab()

        async def attempt(origin: str) -> str:
            await tab.show(origins[origin])
            url = json.dumps(f"{server.ws}?token={server.token}")
            return str(await tab.evaluate(f"({script})({url})"))

        yield attempt
    finally:
        chromium.discard()
        server.discard()
        listed.stop()
        unlisted.stop()


@pytest_twisted.ensureDeferred
async def test_a_page_of_a_listed_origin_may_connect(attempt_from: Attempt) -> None:
    assert await attempt_from("listed") == "open"


@pytest_twisted.ensureDeferred
async def test_a_page_of_the_servers_own_host_and_port_may_connect(attempt_from: Attempt) -> None:
    assert await attempt_from("own") == "open"


@pytest_twisted.ensureDeferred
async def test_a_page_of_another_origin_is_refused_though_it_has_the_token(attempt_from: Attempt) -> None:
    assert await attempt_from("unlisted") == "closed 1006"


@pytest.mark.last
@pytest_twisted.ensureDeferred
async def test_a_page_that_sent_nothing_for_150_s_is_still_connected_and_hears_an_event(
    idle_process: Idle, clients: Clients
) -> None:
    tab = await idle_process.browser.tab()
    # Counted by the page, which may have begun long before this test.
    idle = f"({(PAGES / 'sleep.js').read_text()})({IDLE})"
    assert await tab.evaluate(idle, IDLE + 30) == {"closed": None, "events": []}, idle_process.server.output
    await (await clients.connect(idle_process.server)).publish("idle.page", "wake up")
    assert await tab.evaluate("heard") == "wake up"
    assert await tab.evaluate("seen.closed") is None
