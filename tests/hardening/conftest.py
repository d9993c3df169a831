"""Nodes for the tests of attacks, and a check of the log: no client may cause an error of the server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import provider

from tests.node import nodes as nodes


@pytest.fixture(autouse=True)
def faults() -> Iterator[list[str]]:
    """Collect what is logged at level error or above, or with a traceback; a test fails if any is left."""
    found: list[str] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            found.append(failure.getTraceback())
        elif event.get("log_level", LogLevel.info) >= LogLevel.error:
            found.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)
    assert not found
