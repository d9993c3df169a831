"""One Nexus for all tests of this directory: they keep apart by their URIs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred

from tests.wamp.router import Router, server


@pytest.fixture(scope="session")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    nexus = server(tmp_path_factory.mktemp("wamp"))
    try:
        pytest_twisted.blockon(ensureDeferred(nexus.start()))
        yield Router(nexus.port, nexus.token)
    finally:
        nexus.discard()


@pytest.fixture
def uri(request: pytest.FixtureRequest) -> str:
    """A URI that no other test uses."""
    return f"com.example.{''.join(mark if mark.isalnum() else '_' for mark in request.node.name)}"
