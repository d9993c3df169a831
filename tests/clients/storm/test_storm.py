"""A node with many real clients ends, and all of them come back without a storm."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted

from tests.clients.storm.run import Storm
from tests.conftest import LONG

DELAY = 1.0  # s: the shortest that a node tells its clients, and those that came first know no other
CLIENTS, PROCESSES = (4000, 2) if LONG else (1000, 1)


@pytest.mark.parametrize("end", [pytest.param("stop", marks=pytest.mark.long), "kill"])
@pytest_twisted.ensureDeferred
async def test_all_come_back(tmp_path: Path, end: str) -> None:
    storm = Storm(tmp_path, CLIENTS, PROCESSES)
    try:
        await storm.start()
        figures = await storm.strike(end)
    finally:
        storm.discard()
    assert figures.seen >= CLIENTS
    # A client tries once in each window, and no window is shorter than the node's delay.
    assert CLIENTS <= figures.counts.attempts <= CLIENTS * (figures.counts.seconds / DELAY + 1)
