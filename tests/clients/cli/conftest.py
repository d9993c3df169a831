"""What the tests of the command line share: no settings of the person who runs them, and one real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.cli.program import Program, wait_for
from tests.e2e.server import NexusServer, answers


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own for each test; returns the directory of the configuration in it."""
    for name in ("NEXUS_URL", "NEXUS_TOKEN", "NEXUS_CONFIG", "PORT", "REDIS_URL", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NexusServer]:
    """A real `twistd nexus` that all tests of the command line use; its token has all rights."""
    found = NexusServer(tmp_path_factory.mktemp("cli"))
    found.launch()
    wait_for(lambda: answers(found.port), "the server")
    yield found
    found.discard()


@pytest.fixture
def program(server: NexusServer, home: Path, tmp_path: Path) -> Iterator[Program]:
    """The real `nexus` as child processes, with the server and an admin's token in its environment."""
    found = Program(tmp_path, {"XDG_CONFIG_HOME": str(home), "NEXUS_URL": server.http, "NEXUS_TOKEN": server.token})
    yield found
    found.end()
