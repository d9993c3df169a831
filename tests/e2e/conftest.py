"""An agent that is idle behind nginx while the other tests run: real seconds, spent once and beside everything else."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.nginx import Nginx
from tests.e2e.server import ROOT, Child, NexusServer


@dataclass
class Idle:
    """An agent in a process of its own, which began to be idle when the first test of this directory began."""

    server: NexusServer
    nginx: Nginx
    agent: Child
    began: float  # time.monotonic()

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.agent.output.splitlines() if line.startswith("{")]


def launch(directory: Path) -> Idle:
    server = NexusServer(directory)
    nginx = Nginx(directory, [server.port, server.port])
    agent = Child("idle", directory)
    server.launch()
    nginx.launch()
    arguments = [nginx.wss, str(nginx.authority), server.token]
    agent.spawn([sys.executable, "-m", "tests.e2e.agent", *arguments], os.environ, ROOT)
    return Idle(server, nginx, agent, time.monotonic())


@pytest.fixture(scope="session")
def idle_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Idle]:
    idle = launch(tmp_path_factory.mktemp("idle"))
    yield idle
    for child in (idle.agent, idle.nginx, idle.server):
        child.discard()


@pytest.fixture(scope="session", autouse=True)
def start_idling_early(request: pytest.FixtureRequest) -> None:
    """With the first test of this directory, if the one that looks at the result is going to run at all."""
    if any("idle_process" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("idle_process")
