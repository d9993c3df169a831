"""Clients for tests; and an agent behind nginx and a browser, idle while the other tests run, so that their real seconds are
spent only once."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_twisted

from tests.e2e.chromium import Chromium, Pages
from tests.e2e.clients import Clients
from tests.e2e.nginx import Nginx
from tests.e2e.server import ROOT, Child, NexusServer

PAGES = Path(__file__).parent / "pages"


@pytest_twisted.async_yield_fixture
async def clients() -> Any:
    """Make clients that are closed after the test."""
    made = Clients()
    yield made
    await made.leave()


@dataclass
class Idle:
    """An agent in a process of its own and a page in a browser, idle since the first test of this directory began."""

    server: NexusServer
    nginx: Nginx
    agent: Child
    browser: Chromium
    pages: Pages
    began: float  # time.monotonic()

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.agent.output.splitlines() if line.startswith("{")]


def launch(directory: Path) -> Idle:
    pages = Pages(PAGES)
    server = NexusServer(directory, env={"NEXUS_HTTP__ORIGINS": pages.origin})
    nginx = Nginx(directory, [server.port, server.port])
    agent = Child("idle", directory)
    browser = Chromium(directory)
    server.launch()
    nginx.launch()
    arguments = [nginx.wss, str(nginx.authority), server.token]
    agent.spawn([sys.executable, "-m", "tests.e2e.agent", *arguments], os.environ, ROOT)
    query = urlencode({"url": server.ws, "token": server.token, "event": "idle.page"})
    browser.launch(f"{pages.origin}/idle.html?{query}")
    return Idle(server, nginx, agent, browser, pages, time.monotonic())


@pytest.fixture(scope="session")
def idle_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Idle]:
    idle = launch(tmp_path_factory.mktemp("idle"))
    yield idle
    for child in (idle.browser, idle.agent, idle.nginx, idle.server):
        child.discard()
    idle.pages.stop()


@pytest.fixture(scope="session", autouse=True)
def start_idling_early(request: pytest.FixtureRequest) -> None:
    """Start with the first test of this directory, if the test of the result is selected."""
    if any("idle_process" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("idle_process")
