"""Fixtures of telemetry's tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from zope.interface import provider

from tests.telemetry.world import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """Collect the log lines at warning or above."""
    events: list[Any] = []

    @provider(ILogObserver)
    def observe(event: Any) -> None:
        if event["log_level"] >= LogLevel.warn:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)
