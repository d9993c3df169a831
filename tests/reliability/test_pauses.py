"""A node stands still for a while, and its clock is set."""

from __future__ import annotations

import mmap
import signal
import struct
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import pytest_twisted

from tests.e2e.server import ROOT
from tests.redis_server import RedisServer, running
from tests.reliability.clients import later
from tests.reliability.fleet import Make, times
from tests.reliability.fleet import fleet as fleet

# Makes the wall clock of the process go wrong by what a file says.
CLOCK = """
import mmap, os, struct, time
_file = open(os.environ["CLOCK_OFFSET"], "r+b")
_offset = mmap.mmap(_file.fileno(), 8)
_time, _unpack = time.time, struct.Struct("d").unpack_from
time.time = lambda: _time() + _unpack(_offset)[0]
"""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    yield from running()


@pytest_twisted.ensureDeferred
async def test_a_node_stands_still(redis: RedisServer, fleet: Make) -> None:
    one = fleet(redis.url)
    await one.start()
    one.load()
    await one.under_load(30)
    one.nodes[0].signal(signal.SIGSTOP)
    await later(times(30, 4))
    one.nodes[0].signal(signal.SIGCONT)
    await one.ready()
    await one.visit()
    await one.under_load(30)
    await one.check()


@pytest_twisted.ensureDeferred
async def test_the_clock_of_the_nodes_is_set(redis: RedisServer, fleet: Make, tmp_path: Path) -> None:
    """By an hour, forth and back and back again: nobody waits for the time to come, nothing ends early."""
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    (tmp_path / "offset").write_bytes(bytes(8))
    one = fleet(redis.url, {"PYTHONPATH": f"{tmp_path}:{ROOT}", "CLOCK_OFFSET": str(tmp_path / "offset")})
    with (tmp_path / "offset").open("r+b") as file, mmap.mmap(file.fileno(), 8) as offset:
        await one.start()
        one.load()
        for seconds in (3600.0, 0.0, -3600.0, 0.0) * times(5, 1):
            struct.pack_into("d", offset, 0, seconds)
            await one.under_load(100)
            for publisher in one.publishers:
                ahead = datetime.fromisoformat(publisher.answered).timestamp() - time.time()
                assert abs(ahead - seconds) < 600
            await one.visit()
            # The timers still run: a Redis that hangs is noticed, and found again.
            redis.pause()
            await one.lost()
            redis.resume()
            await one.ready()
        await one.check()
