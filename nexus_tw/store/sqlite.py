"""Telemetry in an SQLite file: no service to run, and a real fsync behind every acknowledgement.

Write-ahead log with `synchronous=FULL`; one thread with the one connection that writes, another one for reading.

A batch is inserted by few statements of many rows each, and a query returns one JSON text. The `sqlite3` module releases
the interpreter lock for every step of a statement and has to get it back from a reactor that may be busy: up to 5 ms each
time. Row by row a busy server stores about a thousand samples a second; with the loop inside SQLite many times that.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from threading import Thread
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nexus_tw.interfaces.plugins import IStore, ITallies, Sample, Tally
from nexus_tw.model.errors import ConfigError, NexusError

BUSY: Final = 2.0  # s to wait for another process to release the file
BUSY_PAUSE: Final = 0.02  # s between tries to open it
PRUNE_ROWS: Final = 5000  # removed in one transaction: some 20 ms, for which a commit may have to wait
PRUNE_AGENTS: Final = 1000  # looked at in one transaction
KNOWN_AGENTS: Final = 65536  # names whose id is remembered
LOG_BYTES: Final = 64 * 1024 * 1024  # what the write-ahead log is cut back to after a burst

OWN_MODE: Final = 0o600  # of the files: they hold what a fleet reports

MEMORY: Final = ":memory:"

_log: Final = Logger()

# Entry n brings the schema from version n (`PRAGMA user_version`) to n + 1. Never changed once released.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE agents (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        # Rows in order of arrival and a narrow index: a fleet then dirties few pages per commit. Clustered
        # by agent (WITHOUT ROWID), each agent's sample would dirty its own page; measured a third slower.
        """CREATE TABLE samples (
            id INTEGER PRIMARY KEY, agent INTEGER NOT NULL, timestamp INTEGER NOT NULL, metrics TEXT NOT NULL)""",
        "CREATE INDEX samples_by_agent ON samples (agent, timestamp)",
    ),
    (
        """CREATE TABLE tallies (
            began INTEGER NOT NULL, holder TEXT NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (began, holder)) WITHOUT ROWID""",
    ),
)

_ADD_AGENTS: Final = "INSERT OR IGNORE INTO agents (name) SELECT value FROM json_each(?)"
_FIND_AGENTS: Final = "SELECT json_group_object(name, id) FROM agents WHERE name IN (SELECT value FROM json_each(?))"
# One statement for many rows: see above. A few sizes, so that each stays prepared.
_ADD_SAMPLES: Final = {
    rows: f"INSERT INTO samples (agent, timestamp, metrics) VALUES {', '.join(['(?, ?, ?)'] * rows)}"  # noqa: S608
    for rows in (1024, 256, 64, 16, 4, 2, 1)
}
# A lone sample of a known agent, the usual case on a server that keeps up.
_ADD_SAMPLE: Final = "INSERT INTO samples (agent, timestamp, metrics) SELECT id, ?, ? FROM agents WHERE name = ?"
_READ: Final = """
    SELECT json_group_array(json_array(timestamp, id, metrics)) FROM (
        SELECT timestamp, id, metrics FROM samples
        WHERE agent = (SELECT id FROM agents WHERE name = ?) AND timestamp >= ? AND timestamp < ?
        ORDER BY timestamp, id LIMIT ?)
"""
_PAGE: Final = "SELECT max(id) FROM (SELECT id FROM agents WHERE id > ? ORDER BY id LIMIT ?)"
# By agent, like the index; an additional index by time would slow down every insert.
_PRUNE_SAMPLES: Final = """
    DELETE FROM samples WHERE id IN (
        SELECT samples.id FROM agents CROSS JOIN samples ON samples.agent = agents.id AND samples.timestamp < ?
        WHERE agents.id > ? AND agents.id <= ? LIMIT ?)
"""
_PRUNE_AGENTS: Final = """
    DELETE FROM agents WHERE id > ? AND id <= ? AND NOT EXISTS (SELECT 1 FROM samples WHERE samples.agent = agents.id)
"""

# `WHERE true`, as SQLite would otherwise parse the `ON` as that of a join.
_TALLY: Final = """
    INSERT INTO tallies (holder, began, size)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(?) WHERE true
    ON CONFLICT (began, holder) DO UPDATE SET size = size + excluded.size
"""
_TALLIES: Final = """
    SELECT json_group_array(json_array(holder, began, size)) FROM tallies WHERE began >= ? AND holder IN (
        SELECT holder FROM tallies WHERE began >= ? GROUP BY holder ORDER BY sum(size) DESC LIMIT ?)
"""
_PRUNE_TALLIES: Final = "DELETE FROM tallies WHERE began < ?"

_Ids: Final = msgspec.json.Decoder(dict[str, int])
_Rows: Final = msgspec.json.Decoder(list[tuple[int, int, str]])
_Tallies: Final = msgspec.json.Decoder(list[tuple[str, int, int]])

_REASONS: Final = {
    sqlite3.SQLITE_FULL: "the store's disk is full",
    sqlite3.SQLITE_BUSY: "the store is locked by another process",
    sqlite3.SQLITE_LOCKED: "the store is locked by another process",
    sqlite3.SQLITE_READONLY: "the store is read-only",
    sqlite3.SQLITE_IOERR: "the store's disk reports an I/O error",
    sqlite3.SQLITE_CORRUPT: "the store's file is damaged",
    sqlite3.SQLITE_NOTADB: "the store's file is not an SQLite database",
    sqlite3.SQLITE_CANTOPEN: "the store's file cannot be opened",
    sqlite3.SQLITE_PERM: "the store's file cannot be opened",
}
# After these errors a connection stays usable; after any other it is reopened.
_HARMLESS: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

_Task = tuple[Callable[[], Any], Deferred[Any]]

T = TypeVar("T")


@implementer(IStore, ITallies)
class SqliteStore:
    """An `IStore` over the file at `path`, created with its directory if missing; `:memory:` is for tests.

    `reactor` provides `IReactorFDSet`; `busy` is the time (s) for which another process may hold the file.
    """

    def __init__(self, path: str, reactor: Any, busy: float = BUSY) -> None:
        self._path = path
        self._writer = _Lane(reactor, path, busy, writes=True)
        self._agents = _Agents()
        # A database in memory belongs to its connection.
        self._reader = self._writer if path == MEMORY else _Lane(reactor, path, busy, writes=False)

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
        return self._writer.run(partial(_insert, samples=samples, agents=self._agents))

    def samples(self, agent_id: str, since: int, until: int, limit: int) -> Deferred[list[Sample]]:
        return self._reader.run(partial(_read, agent_id=agent_id, since=since, until=until, limit=limit))

    def tally(self, tallies: Sequence[Tally]) -> Deferred[None]:
        return self._writer.run(partial(_tally, tallies=tallies))

    def tallies(self, since: int, most: int) -> Deferred[list[Tally]]:
        return self._reader.run(partial(_read_tallies, since=since, most=most))

    async def prune(self, before: int) -> int:
        removed, seen = 0, 0
        # Each step queues behind the commits requested meanwhile. Stopping does not wait for a long pruning.
        while self._writer.open:
            count, last = await self._writer.run(partial(_prune, before=before, seen=seen, agents=self._agents))
            removed += count
            if last is None:
                break
            seen = last
        if self._writer.open:
            await self._writer.run(partial(_prune_tallies, before=before))
        return removed

    def _lanes(self) -> list[_Lane]:
        return [self._writer] if self._reader is self._writer else [self._writer, self._reader]


@implementer(IReadDescriptor)
class _Answers:
    """Passes results of a thread's tasks to the reactor's thread; `callFromThread` does the same at a higher cost."""

    def __init__(self) -> None:
        self._given: deque[tuple[Deferred[Any], Any]] = deque()
        self._ear, self._bell = os.pipe()
        os.set_blocking(self._ear, False)
        os.set_blocking(self._bell, False)

    def give(self, done: Deferred[Any], result: Any) -> None:
        """Pass a result; called in the thread, while `done` fires in the reactor's."""
        self._given.append((done, result))
        with suppress(BlockingIOError):  # so full that it rings anyway
            os.write(self._bell, b"\0")

    def close(self) -> None:
        os.close(self._ear)
        os.close(self._bell)

    # --- IReadDescriptor

    def fileno(self) -> int:
        return self._ear

    def logPrefix(self) -> str:
        return "store"

    def doRead(self) -> None:
        os.read(self._ear, 4096)
        while self._given:
            done, result = self._given.popleft()
            done.callback(result)  # a Failure makes it fail

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has ended."""


class _Lane:
    """One thread and its own connection, which is opened on first use and again after a failure."""

    def __init__(self, reactor: Any, path: str, busy: float, writes: bool) -> None:
        self.open = False
        self._reactor = reactor
        self._path = path
        self._busy = busy
        self._writes = writes
        self._name = "nexus-store-write" if writes else "nexus-store-read"
        self._thread: Thread
        self._ear: int
        self._bell: int
        self._answers: _Answers
        self._tasks: deque[_Task | None] = deque()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def start(self) -> None:
        self._ear, self._bell = os.pipe()
        os.set_blocking(self._bell, False)
        self._answers = _Answers()
        self._reactor.addReader(self._answers)
        # A daemon thread: a server that ends without having stopped its store must end too; acknowledged samples are on disk.
        self._thread = Thread(target=self._serve, name=self._name, daemon=True)
        self._thread.start()
        self.open = True

    def run(self, work: Callable[[sqlite3.Connection], T]) -> Deferred[T]:
        """Do the work in the thread, after all earlier work; fire in the reactor's."""
        if not self.open:
            return fail(NexusError("store_unavailable", "the store is closed"))
        return self._put(partial(self._attempt, work))

    async def stop(self) -> None:
        if self.open:
            self.open = False
            await self._put(self._disconnect)
            self._give(None)
            self._thread.join()  # it has nothing left to do
            os.close(self._ear)
            os.close(self._bell)
            self._reactor.removeReader(self._answers)
            self._answers.close()

    def _put(self, task: Callable[[], T]) -> Deferred[T]:
        done: Deferred[T] = Deferred()
        self._give((task, done))
        return done

    def _give(self, item: _Task | None) -> None:
        self._tasks.append(item)
        with suppress(BlockingIOError):  # so full that it rings anyway
            os.write(self._bell, b"\0")

    def _take(self) -> _Task | None:
        while not self._tasks:
            os.read(self._ear, 4096)
        return self._tasks.popleft()

    def _serve(self) -> None:
        # A queue and a wake-up; Twisted's thread pool does the same for any number of threads at three times the cost, more
        # than a small commit costs. The wake-up is a pipe, as the reactor releases the interpreter lock while it
        # writes. A lock would wake this thread in vain: it would have to sleep again until the reactor is idle.
        while (item := self._take()) is not None:
            task, done = item
            try:
                result = task()
            except Exception:  # the caller has to be told
                result = Failure()
            self._answers.give(done, result)

    def _attempt(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._connected())
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # without the extended part
            if code not in _HARMLESS:
                self._disconnect()
            reason = _REASONS.get(code, f"the store failed: {error}")
            raise NexusError("store_unavailable", reason) from error
        except OSError as error:
            reason = f"the store's file cannot be opened: {error.strerror}"
            raise NexusError("store_unavailable", reason) from error
        except OverflowError as error:
            raise NexusError("store_unavailable", "a number is larger than 64 bits") from error

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None and self._file is None:
            self._connection = self._connect()
            self._file = _identity(self._path)
        # A removed or replaced file still accepts writes through an open connection, and loses them; opening
        # the new one would mix it with the log of the old one. Once the old file is back, the store continues.
        if self._file != _identity(self._path):
            raise NexusError("store_unavailable", "the store's file was removed or replaced; restart to begin a new one")
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        # The switch to a write-ahead log fails at once if another process is doing the same: SQLite's own waiting
        # does not cover it. This thread has nothing else to do.
        until = time.monotonic() + self._busy
        while True:
            try:
                return self._connect_once()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
            time.sleep(BUSY_PAUSE)

    def _connect_once(self) -> sqlite3.Connection:
        if self._path == MEMORY:
            target = MEMORY
        else:
            if self._writes:
                _create(self._path)
                _close_to_others(self._path)
            target = f"file:{quote(self._path)}?mode=rw"
        connection = sqlite3.connect(target, uri=target != MEMORY, timeout=self._busy, isolation_level=None)
        try:
            if self._writes:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")
                # After a failed fsync it is unknown how much of the log is on disk, and data appended
                # after a hole is lost with it. So the log starts empty. A lock of another process is no failure.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                _migrate(connection)
            else:
                connection.execute("PRAGMA query_only=ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _create(path: str) -> None:
    """Create an empty file, for its owner only, if there is none."""
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    directory = os.path.dirname(os.path.abspath(path))
    missing = []
    while not os.path.isdir(directory) and not os.path.lexists(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for directory in reversed(missing):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        # SQLite syncs the directory of its files; the entry of this directory is ours to sync.
        parent = os.open(os.path.dirname(directory), os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    # Never an existing file: closing one drops the locks (fcntl) that SQLite holds on it in this process.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, OWN_MODE))


def _close_to_others(path: str) -> None:
    """Remove other users' rights to the files: a copy that was put back has the rights of its creator.

    The log and its index hold the same samples. SQLite creates them with the rights of the file, so the file comes first.
    """
    for name in (path, f"{path}-wal", f"{path}-shm"):
        with suppress(FileNotFoundError):
            mode = stat.S_IMODE(os.stat(name).st_mode)
            if mode & ~OWN_MODE:
                try:
                    os.chmod(name, OWN_MODE)
                except OSError as error:
                    _log.warn("{name}: others may read it, and that cannot be changed: {why}", name=name, why=error.strerror)
                else:
                    _log.warn("{name}: had mode {mode}; others cannot read it any more", name=name, mode=f"{mode:03o}")


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            known = len(MIGRATIONS)
            raise NexusError("store_unavailable", f"it was made by a newer Nexus (schema {version}, known is {known})")
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        # Even if nothing is new: a read-only file is detected now and not by the first sample.
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise


def _roll_back(connection: sqlite3.Connection) -> None:
    # Some failures (a full disk among them) have ended the transaction themselves.
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _touch(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


class _Agents:
    """The ids of agents, cached for a connection.

    They are valid until another process writes to the file (see `PRAGMA data_version`), which may have removed a name.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._connection: sqlite3.Connection | None = None
        self._version = 0

    def forget(self) -> None:
        self._ids.clear()

    def ids(self, connection: sqlite3.Connection, names: set[str]) -> dict[str, int]:
        """Return the ids of at least these names, created if missing; inside a transaction that holds the write lock."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._version or connection is not self._connection or len(self._ids) > KNOWN_AGENTS:
            self.forget()
            self._version = version
            self._connection = connection
        unknown = [name for name in names if name not in self._ids]  # `names - keys` would go through all the keys
        if unknown:
            text = _json(unknown)
            connection.execute(_ADD_AGENTS, (text,))
            (found,) = connection.execute(_FIND_AGENTS, (text,)).fetchone()
            self._ids.update(_Ids.decode(found))
        return self._ids


def _insert(connection: sqlite3.Connection, samples: Sequence[Sample], agents: _Agents) -> None:
    if len(samples) == 1 and _insert_one(connection, samples[0]):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        ids = agents.ids(connection, {sample.agent_id for sample in samples})
        rows = [(ids[agent_id], timestamp, metrics.decode()) for agent_id, timestamp, metrics in samples]
        start = 0
        for size, statement in _ADD_SAMPLES.items():
            while len(rows) - start >= size:
                connection.execute(statement, tuple(chain.from_iterable(rows[start : start + size])))
                start += size
        connection.execute("COMMIT")
    except BaseException:
        agents.forget()  # those created in it do not exist
        _roll_back(connection)
        raise


def _insert_one(connection: sqlite3.Connection, sample: Sample) -> bool:
    """Run one statement, a transaction by itself. Return false, with nothing changed, if the agent is unknown."""
    agent_id, timestamp, metrics = sample
    return connection.execute(_ADD_SAMPLE, (timestamp, metrics.decode(), agent_id)).rowcount == 1


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _read(connection: sqlite3.Connection, agent_id: str, since: int, until: int, limit: int) -> list[Sample]:
    (text,) = connection.execute(_READ, (agent_id, since, until, limit)).fetchone()
    rows = _Rows.decode(text)
    rows.sort()  # the order of an aggregate's input is not promised
    return [Sample(agent_id, timestamp, metrics.encode()) for timestamp, _, metrics in rows]


def _tally(connection: sqlite3.Connection, tallies: Sequence[Tally]) -> None:
    # JSON inside JSON: SQLite's own functions end a text at its first NUL, which may occur between an issuer and a subject.
    connection.execute(_TALLY, (_json([(_json(holder), began, size) for holder, began, size in tallies]),))


def _read_tallies(connection: sqlite3.Connection, since: int, most: int) -> list[Tally]:
    (text,) = connection.execute(_TALLIES, (since, since, most)).fetchone()
    return [Tally(msgspec.json.decode(holder), began, size) for holder, began, size in _Tallies.decode(text)]


def _prune_tallies(connection: sqlite3.Connection, before: int) -> None:
    connection.execute(_PRUNE_TALLIES, (before,))


def _prune(connection: sqlite3.Connection, before: int, seen: int, agents: _Agents) -> tuple[int, int | None]:
    """Run one step. Return how many samples were removed, and the last agent that is done (None: all are)."""
    (last,) = connection.execute(_PAGE, (seen, PRUNE_AGENTS)).fetchone()
    if last is None:
        return 0, None
    removed = connection.execute(_PRUNE_SAMPLES, (before, seen, last, PRUNE_ROWS)).rowcount
    if removed == PRUNE_ROWS:
        return removed, seen
    # Names must not accumulate either.
    agents.forget()
    connection.execute(_PRUNE_AGENTS, (seen, last))
    return removed, last
