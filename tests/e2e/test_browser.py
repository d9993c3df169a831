"""A real browser: which pages it may connect from."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import pytest_twisted

from tests.e2e.chromium import Chromium, Pages
from tests.e2e.conftest import PAGES
from tests.e2e.server import NexusServer

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
