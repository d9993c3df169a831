"""A thread with a connection of its own, and the way of its results back to the reactor."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Any, Final, TypeVar
from urllib.parse import quote

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from nexus_tw.model.errors import NexusError
from nexus_tw.store.sqlite.files import close_to_others, create, identity
from nexus_tw.store.sqlite.schema import migrate

BUSY_PAUSE: Final = 0.02  # s between tries to open it
LOG_BYTES: Final = 64 * 1024 * 1024  # what the write-ahead log is cut back to after a burst
MEMORY: Final = ":memory:"

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


class Lane:
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
            self._file = identity(self._path)
        # A removed or replaced file still accepts writes through an open connection, and loses them; opening
        # the new one would mix it with the log of the old one. Once the old file is back, the store continues.
        if self._file != identity(self._path):
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
                create(self._path)
                close_to_others(self._path)
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
                migrate(connection)
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
