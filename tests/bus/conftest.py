"""What the tests of the buses share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """All lines of warning and worse, and those of the bus, that are logged during the test, with tracebacks."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: Any) -> None:
        if event["log_level"] >= LogLevel.warn or event["log_namespace"].startswith("nexus_tw.bus"):
            trace = event["log_failure"].getTraceback() if "log_failure" in event else ""
            lines.append(formatEvent(event) + trace)

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def flush(logged: list[str]) -> Callable[[], int]:
    """How many failures were logged."""
    return lambda: sum("Traceback" in line for line in logged)
