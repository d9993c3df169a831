"""The master dies, and a replica is promoted: with all that was acknowledged, or without the last of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import pytest_twisted

from tests.e2e.server import until
from tests.redis_server import RedisServer, SentinelServer
from tests.reliability.fleet import PATIENCE, Make, times
from tests.reliability.fleet import fleet as fleet


class Pair:
    """Two servers, one of which is the master, and a sentinel."""

    def __init__(self) -> None:
        self.master = RedisServer(options=("--repl-diskless-sync-delay", "0"))
        self.master.start()
        self.replica = RedisServer(options=("--repl-diskless-sync-delay", "0"))
        self._follow()
        self.sentinel = SentinelServer(self.master.port)
        self.sentinel.start()

    def _follow(self) -> None:
        self.replica.options = (*self.replica.options[:2], "--replicaof", "127.0.0.1", str(self.master.port))
        self.replica.start()

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/nexus/0"

    async def in_step(self) -> None:
        """Returns once the replica could be promoted: it has everything, and the sentinel knows it."""

        def known() -> bool:
            rows = [dict(zip(row[::2], row[1::2], strict=True)) for row in self.sentinel.ask("SENTINEL", "replicas", "nexus")]
            mine = [row for row in rows if row[b"port"] == b"%d" % self.replica.port]
            return self.replica.ask("ROLE")[3] == b"connected" and any(
                row[b"master-link-status"] == b"ok" and row[b"flags"] == b"slave" for row in mine
            )

        await until(known, PATIENCE, "for the replica")

    def cut_off(self) -> None:
        """The replica gets nothing any more of what the master takes from now on."""
        os.kill(self.replica.pid, signal.SIGSTOP)
        self.master.ask("CLIENT", "KILL", "TYPE", "replica")

    async def fail(self) -> None:
        """The master dies. Returns once the other one has its place."""
        self.master.kill()
        self.replica.resume()
        await until(lambda: self.replica.ask("ROLE")[0] == b"master", PATIENCE, "for the promotion")
        self.master, self.replica = self.replica, self.master

    async def return_(self) -> None:
        """The dead one comes back as a replica."""
        self._follow()
        await self.in_step()

    def close(self) -> None:
        for server in (self.sentinel, self.replica, self.master):
            server.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    try:
        yield made
    finally:
        made.close()


@pytest_twisted.ensureDeferred
async def test_the_master_dies(pair: Pair, fleet: Make) -> None:
    """Every second time the replica lacks the last events that were acknowledged: everybody is told, nobody gets others."""
    await pair.in_step()
    one = fleet(pair.url)
    await one.start()
    one.load()
    for number in range(times(10, 2)):
        await one.under_load(50)
        await one.visit()
        if number % 2:
            gaps = [watcher.watcher.gaps for watcher in one.watchers]
            pair.cut_off()
            await one.under_load(50)
        await pair.fail()
        await one.ready()
        await one.visit()
        if number % 2:
            await until(
                lambda gaps=gaps: all(
                    subscriber.watcher.gaps > before for subscriber, before in zip(one.watchers, gaps, strict=True)
                ),
                PATIENCE,
                "for the gaps",
            )
        await pair.return_()
    await one.check()
