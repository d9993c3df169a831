"""A real server for the JavaScript client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.clients.javascript.world import CONFIG, Server


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("javascript")
    config = directory / "nexus.toml"
    config.write_text(CONFIG)
    server = Server(directory, "--config", str(config))
    pytest_twisted.blockon(Deferred.fromCoroutine(server.start()))
    yield server
    server.discard()
