"""Captures the lines of the client log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import provider


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Return the client log's lines at level info while the test runs."""
    found: list[str] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == "nexus_tw.runtime.client_log" and event["log_level"] is LogLevel.info:
            found.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)
