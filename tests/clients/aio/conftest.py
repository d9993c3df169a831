"""A real server for the asyncio client, and clients of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from nexus_client import Nexus
from twisted.internet.defer import Deferred

from tests.clients.aio.world import ROLES, TlsServer
from tests.e2e.server import NexusServer


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    directory = tmp_path_factory.mktemp("asyncio")
    config = directory / "nexus.toml"
    config.write_text(ROLES)
    server = TlsServer(directory, "--config", str(config))
    pytest_twisted.blockon(Deferred.fromCoroutine(server.start()))
    yield server
    server.discard()


@pytest.fixture
def make(server: NexusServer) -> Callable[..., Nexus]:
    def make_one(url: str = server.http, **options: Any) -> Nexus:
        return Nexus(url, **{"token": server.token, **options})

    return make_one


