"""Fixtures of the tests of WAMP authentication."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Collect the log lines of the test with their level, and the type of a failure."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        level: LogLevel = event["log_level"]
        kind = f" ({event['log_failure'].type.__name__})" if "log_failure" in event else ""
        lines.append(f"{level.name}: {formatEvent(event)}{kind}")

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)
