"""Shared by all tests: selection and order, signals, and Hypothesis without a deadline, as the machine may be busy."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

LONG = os.environ.get("NEXUS_TEST_LONG") == "1"

settings.register_profile("nexus", deadline=None, max_examples=1000 if LONG else 100)
settings.load_profile("nexus")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deselect and report tests marked `long` unless they are requested; run those marked `last` at the end."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
    if LONG:
        return
    skip = pytest.mark.skip(reason="long; bin/test --long runs it")
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(skip)


class Woken:
    """Fails a test after which signals do not wake the reactor: it would not learn that a process has ended."""

    def __init__(self) -> None:
        self._descriptor = -1  # to which the kernel's signals are written

    def pytest_sessionstart(self) -> None:
        from twisted.internet import reactor

        running: Any = reactor
        running.callWhenRunning(self._look)

    def _look(self) -> None:
        self._descriptor = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(self._descriptor)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        result = yield
        found = signal.set_wakeup_fd(self._descriptor)
        assert found == self._descriptor, f"signals are written to {found} instead of {self._descriptor}"
        assert self._descriptor == -1 or signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL
        return result


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Woken())
    if config.getoption("dist", "no") != "no":  # with -n
        # What the tests of a file share is made once; by several processes, the whole field would be run in each of them.
        config.option.dist = "loadfile"
        config.option.loadscopereorder = False
