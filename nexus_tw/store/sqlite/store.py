"""Telemetry in an SQLite file: no service to run, and a real fsync behind every acknowledgement.

Write-ahead log with `synchronous=FULL`; one thread with the one connection that writes, another one for reading.

A batch is inserted by few statements of many rows each, and a query returns one JSON text. The `sqlite3` module releases
the interpreter lock for every step of a statement and has to get it back from a reactor that may be busy: up to 5 ms each
time. Row by row a busy server stores about a thousand samples a second; with the loop inside SQLite many times that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nexus_tw.interfaces.ledger import AuditLine, Entry, IAudit, IKeepsCommands, Operation, Recorded
from nexus_tw.interfaces.plugins import IOnce, IRevoked, IStore, ITallies, Sample, Tally
from nexus_tw.model.errors import ConfigError, NexusError
from nexus_tw.model.room import Bounds
from nexus_tw.store.sqlite.audit import note, trail
from nexus_tw.store.sqlite.audit import prune as prune_audit
from nexus_tw.store.sqlite.commands import Commands
from nexus_tw.store.sqlite.lane import MEMORY, Lane
from nexus_tw.store.sqlite.revocations import read_revoked, revoke, unrevoke
from nexus_tw.store.sqlite.samples import Agents, insert, insert_once, prune, read
from nexus_tw.store.sqlite.tallies import prune_tallies, read_tallies, tally

BUSY: Final = 2.0  # s to wait for another process to release the file


@implementer(IStore, IOnce, ITallies, IRevoked, IKeepsCommands, IAudit)
class SqliteStore:
    """An `IStore` over the file at `path`, created with its directory if missing; `:memory:` is for tests.

    `reactor` provides `IReactorFDSet`; `busy` is the time (s) for which another process may hold the file.
    """

    def __init__(self, path: str, reactor: Any, busy: float = BUSY) -> None:
        self._path = path
        self._writer = Lane(reactor, path, busy, writes=True)
        self._agents = Agents()
        self._commands = Commands()
        # A database in memory belongs to its connection.
        self._reader = self._writer if path == MEMORY else Lane(reactor, path, busy, writes=False)

    async def start(self) -> None:
        for lane in self._lanes():
            lane.start()
        try:
            for lane in self._lanes():
                await lane.run(_touch)
        except NexusError as error:
            await self.stop()
            raise ConfigError(f"store.url: cannot use {self._path!r}: {error.message}") from error

    async def stop(self) -> None:
        # The writer last: the last connection to close folds the log into the file.
        for lane in reversed(self._lanes()):
            await lane.stop()

    def commit(self, samples: Sequence[Sample]) -> Deferred[None]:
        return self._writer.run(partial(insert, samples=samples, agents=self._agents))

    def commit_once(self, samples: Sequence[Sample], ids: Sequence[str | None]) -> Deferred[list[int]]:
        return self._writer.run(partial(insert_once, samples=samples, sent_ids=ids, agents=self._agents))

    def samples(self, agent_id: str, since: int, until: int, limit: int) -> Deferred[list[Sample]]:
        return self._reader.run(partial(read, agent_id=agent_id, since=since, until=until, limit=limit))

    def tally(self, tallies: Sequence[Tally]) -> Deferred[None]:
        return self._writer.run(partial(tally, tallies=tallies))

    def tallies(self, since: int, most: int) -> Deferred[list[Tally]]:
        return self._reader.run(partial(read_tallies, since=since, most=most))

    def revoke(self, key: str, record: bytes) -> Deferred[None]:
        return self._writer.run(partial(revoke, key=key, record=record))

    def unrevoke(self, keys: Sequence[str]) -> Deferred[None]:
        return self._writer.run(partial(unrevoke, keys=keys))

    def revoked(self) -> Deferred[list[bytes]]:
        return self._reader.run(read_revoked)

    def record(self, realm: str, operations: Sequence[Operation], bounds: Bounds) -> Deferred[Recorded]:
        return self._writer.run(partial(self._commands.record, realm=realm, operations=operations, bounds=bounds))

    def inherit(self, realm: str, left: str | None, node: str, most: int) -> Deferred[list[Entry]]:
        return self._writer.run(partial(self._commands.inherit, realm=realm, left=left, node=node, most=most))

    def note(self, lines: Sequence[AuditLine]) -> Deferred[None]:
        return self._writer.run(partial(note, lines=lines))

    def trail(self, realm: str, command_id: str, most: int) -> Deferred[list[AuditLine]]:
        # After the lines that are on their way.
        return self._writer.run(partial(trail, realm=realm, command_id=command_id, most=most))

    async def prune(self, before: int) -> int:
        removed, seen = 0, 0
        # Each step queues behind the commits requested meanwhile. Stopping does not wait for a long pruning.
        while self._writer.open:
            count, last = await self._writer.run(partial(prune, before=before, seen=seen, agents=self._agents))
            removed += count
            if last is None:
                break
            seen = last
        if self._writer.open:
            await self._writer.run(partial(prune_tallies, before=before))
        for more in (self._commands.prune, partial(prune_audit, before=before)):
            while self._writer.open and await self._writer.run(more):
                pass
        return removed

    def _lanes(self) -> list[Lane]:
        return [self._writer] if self._reader is self._writer else [self._writer, self._reader]


def _touch(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
