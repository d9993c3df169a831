"""Shared by all tests: selection and order of tests, and Hypothesis without a deadline, since the machine may be busy."""

from __future__ import annotations

import os

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
