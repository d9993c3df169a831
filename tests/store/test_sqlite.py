"""The SQLite store: its file, and everything that can be wrong with a file."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from nexus_tw.interfaces.plugins import Sample, Tally
from nexus_tw.model.errors import ConfigError, NexusError
from nexus_tw.store.sqlite.samples import _FIND_STORED
from nexus_tw.store.sqlite.schema import MIGRATIONS
from nexus_tw.store.sqlite.store import SqliteStore

ONE = [Sample("a", 1, b'{"n":1}')]
EVER = 2**53
PATIENCE = 60  # s; only to end a test that hangs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "nexus.db"


@pytest_twisted.async_yield_fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(str(path), reactor, busy=0.1)
    await opened.start()
    yield opened
    await opened.stop()


async def refused(attempt: Awaitable[Any]) -> str:
    with pytest.raises(NexusError) as caught:
        await attempt
    assert caught.value.code == "store_unavailable"
    return caught.value.message


async def refused_start(path: Path | str) -> str:
    threads = threading.active_count()
    with pytest.raises(ConfigError) as caught:
        await SqliteStore(str(path), reactor, busy=0.1).start()
    assert threading.active_count() == threads
    assert str(caught.value).startswith(f"store.url: cannot use {str(path)!r}: ")
    return str(caught.value)


async def count(store: SqliteStore, agent_id: str = "a") -> int:
    return len(await store.samples(agent_id, 0, EVER, 1_000_000))


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_directory_and_the_file_are_made_for_their_owner_only(store: SqliteStore, path: Path) -> None:
    await store.commit(ONE)
    assert path.parent.stat().st_mode & 0o077 == 0
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0


@pytest_twisted.ensureDeferred
async def test_a_restored_database_that_others_can_read_is_made_its_owner_s_at_the_start_with_its_log(
    path: Path,
) -> None:
    store = SqliteStore(str(path), reactor)
    await store.start()
    await store.commit(ONE)
    files = [path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))]
    copies = {file.name: file.read_bytes() for file in files}
    await store.stop()
    for file in files:
        file.write_bytes(copies[file.name])
        file.chmod(0o644)
    store = SqliteStore(str(path), reactor)
    await store.start()
    try:
        assert [oct(file.stat().st_mode & 0o777) for file in files] == ["0o600"] * 3
        assert await count(store) == 1
    finally:
        await store.stop()


@pytest_twisted.ensureDeferred
async def test_a_relative_path_is_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqliteStore("some where?#%20.db", reactor)
    await store.start()
    await store.commit(ONE)
    assert await count(store) == 1
    await store.stop()
    assert [file.name for file in tmp_path.iterdir()] == ["some where?#%20.db"]


@pytest_twisted.ensureDeferred
async def test_commits_are_synced_and_logged_ahead(store: SqliteStore, path: Path) -> None:
    await store.commit(ONE)
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()
    modes = await store._writer.run(lambda connection: connection.execute("PRAGMA synchronous").fetchone())
    assert modes == (2,)  # FULL


@pytest_twisted.ensureDeferred
async def test_the_metrics_can_be_queried_with_the_tools_of_sqlite(store: SqliteStore, path: Path) -> None:
    await store.commit([Sample("a", 1, b'{"disk.used":1.5}')])
    with sqlite3.connect(path) as other:
        found = other.execute("""SELECT json_extract(metrics, '$."disk.used"') FROM samples""").fetchall()
    other.close()
    assert found == [(1.5,)]


@pytest_twisted.ensureDeferred
async def test_a_query_by_agent_and_time_uses_the_index(store: SqliteStore, path: Path) -> None:
    with sqlite3.connect(path) as other:
        plan = other.execute(
            "EXPLAIN QUERY PLAN SELECT metrics FROM samples WHERE agent = 1 AND timestamp >= 1 ORDER BY timestamp, id"
        ).fetchall()
    other.close()
    assert "samples_by_agent" in str(plan)
    assert "TEMP B-TREE" not in str(plan)


@pytest_twisted.ensureDeferred
async def test_names_of_agents_do_not_outlive_their_samples(store: SqliteStore, path: Path) -> None:
    await store.commit([Sample(f"agent-{number}", number, b'{"n":1}') for number in range(3000)])
    assert await store.prune(2990) == 2990
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT count(*) FROM agents").fetchone() == (10,)
    other.close()


@pytest_twisted.ensureDeferred
async def test_a_long_pruning_ends_when_the_store_closes(store: SqliteStore) -> None:
    await store.commit([Sample("a", number, b'{"n":1}') for number in range(30_000)])
    pruning: Deferred[int] = Deferred.fromCoroutine(store.prune(EVER))
    await store.stop()
    assert 0 < await pruning < 30_000


# --- the schema -------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_file_made_by_a_newer_server_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as newer:
        newer.execute("CREATE TABLE future (x)")
        newer.execute("PRAGMA user_version=999")
    newer.close()
    assert "newer Nexus (schema 999" in await refused_start(path)
    with sqlite3.connect(path) as again:
        assert again.execute("SELECT name FROM sqlite_master").fetchall() == [("future",)]
    again.close()


@pytest_twisted.ensureDeferred
async def test_a_migration_that_fails_leaves_nothing_behind(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE samples (of, something, else_)")
    foreign.close()
    assert "already exists" in await refused_start(path)
    with sqlite3.connect(path) as again:
        assert again.execute("SELECT name FROM sqlite_master").fetchall() == [("samples",)]
    again.close()


@pytest_twisted.ensureDeferred
async def test_the_version_is_written_and_a_second_start_changes_nothing(store: SqliteStore, path: Path) -> None:
    await store.commit(ONE)
    await store.stop()
    again = SqliteStore(str(path), reactor)
    await again.start()
    assert await again.samples("a", 0, 2, 10) == ONE
    await again.stop()
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    other.close()


@pytest_twisted.ensureDeferred
async def test_a_file_of_the_version_before_ids_keeps_its_samples_and_takes_ids(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as old:  # as that version left it
        old.executescript("""
            CREATE TABLE agents (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
            CREATE TABLE samples (
                id INTEGER PRIMARY KEY, agent INTEGER NOT NULL, timestamp INTEGER NOT NULL, metrics TEXT NOT NULL);
            CREATE INDEX samples_by_agent ON samples (agent, timestamp);
            CREATE TABLE tallies (
                began INTEGER NOT NULL, holder TEXT NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (began, holder)) WITHOUT ROWID;
            INSERT INTO agents VALUES (7, 'a');
            INSERT INTO samples VALUES (1, 7, 1, '{"n":1}'), (2, 7, 1, '{"n":1}');
            INSERT INTO tallies VALUES (1, '"subject s"', 14);
            PRAGMA user_version=2;
        """)
    old.close()
    store = SqliteStore(str(path), reactor)
    await store.start()
    assert await store.samples("a", 0, 2, 10) == ONE * 2
    assert await store.tallies(0, 10) == [Tally("subject s", 1, 14)]
    assert [await store.commit_once(ONE, ["s-1"]) for _ in range(2)] == [[], [0]]
    assert await count(store) == 3
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_ids_are_looked_up_by_their_index(store: SqliteStore, path: Path) -> None:
    with sqlite3.connect(path) as other:
        plan = " ".join(str(row) for row in other.execute(f"EXPLAIN QUERY PLAN {_FIND_STORED}", ("[]",)))
    other.close()
    assert "USING COVERING INDEX samples_by_sent_id (agent=? AND sent_id=?)" in plan


# --- what can be wrong at the start -----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "Is a directory" in await refused_start(tmp_path)


@pytest_twisted.ensureDeferred
async def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "Not a directory" in await refused_start(tmp_path / "file" / "nexus.db")


@pytest_twisted.ensureDeferred
async def test_a_directory_that_cannot_be_made_is_refused() -> None:
    await refused_start("/proc/nexus/nexus.db")


@contextmanager
def nobody() -> Iterator[None]:
    """Root may write everywhere, so it is somebody else meanwhile."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest_twisted.ensureDeferred
async def test_a_file_that_must_not_be_written_is_refused() -> None:
    # Not below pytest's own directory, which only its owner may look into.
    with TemporaryDirectory() as directory:
        path = Path(directory, "nexus.db")
        store = SqliteStore(str(path), reactor)
        await store.start()
        await store.stop()
        path.chmod(0o444)
        path.parent.chmod(0o555)
        with nobody():
            assert "read-only" in await refused_start(path)
        path.parent.chmod(0o755)


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    text = "this is my diary\n" * 1000
    (tmp_path / "diary").write_text(text)
    assert "not an SQLite database" in await refused_start(tmp_path / "diary")
    assert (tmp_path / "diary").read_text() == text


@pytest_twisted.ensureDeferred
async def test_a_damaged_database_is_refused(store: SqliteStore, path: Path) -> None:
    await store.commit(ONE)
    await store.stop()
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * (4096 - 100)  # the page of the schema, behind the header
    path.write_bytes(content)
    assert "damaged" in await refused_start(path)


@pytest_twisted.ensureDeferred
async def test_a_store_that_another_process_keeps_locked_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with locked(path):
        assert "locked by another process" in await refused_start(path)


# --- what can go wrong later, and end again ---------------------------------------------------------------------------


@contextmanager
def locked(path: Path) -> Iterator[None]:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@pytest_twisted.ensureDeferred
async def test_a_locked_store_refuses_in_plain_words_and_works_again_once_it_is_free(store: SqliteStore, path: Path) -> None:
    await store.commit(ONE)
    with locked(path):
        assert await refused(store.commit(ONE)) == "the store is locked by another process"
        assert await count(store) == 1  # reading goes on
    await store.commit(ONE)
    assert await count(store) == 2


@pytest_twisted.ensureDeferred
async def test_a_lock_that_is_short_is_waited_for(path: Path) -> None:
    store = SqliteStore(str(path), reactor, busy=PATIENCE)
    await store.start()
    with locked(path):
        waiting = store.commit(ONE)
    await waiting
    assert await count(store) == 1
    await store.stop()


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


@pytest_twisted.ensureDeferred
async def test_a_full_disk_refuses_whole_batches_and_works_again_once_there_is_space(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.call(mount, stderr=subprocess.DEVNULL):
        await full_by_order(disk / "nexus.db")  # without the right to mount a small disk
        return
    try:
        store = SqliteStore(str(disk / "nexus.db"), reactor)
        await store.start()
        await store.commit(ONE)
        filler = disk / "filler"
        fill(filler)
        big = [Sample("b", number, b'{"text":"%b"}' % (b"x" * 500)) for number in range(1000)]
        assert await refused(store.commit(big)) == "the store's disk is full"
        assert await refused(store.commit(big)) == "the store's disk is full"
        assert await count(store, "b") == 0
        filler.unlink()
        await store.commit(big)
        assert (await count(store), await count(store, "b")) == (1, 1000)
        await store.stop()
    finally:
        subprocess.run(["umount", disk], check=True)


async def full_by_order(path: Path) -> None:
    """The same with a file that SQLite was told not to let grow, which it reports as it reports a full disk."""
    store = SqliteStore(str(path), reactor)
    await store.start()
    await store.commit(ONE)
    big = [Sample("b", number, b'{"text":"%b"}' % (b"x" * 500)) for number in range(1000)]
    await store._writer.run(lambda connection: connection.execute("PRAGMA max_page_count=10").fetchone())
    assert await refused(store.commit(big)) == "the store's disk is full"
    assert await count(store, "b") == 0
    await store._writer.run(lambda connection: connection.execute("PRAGMA max_page_count=100000").fetchone())
    await store.commit(big)
    assert (await count(store), await count(store, "b")) == (1, 1000)
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_a_full_store_refuses_whole_batches_without_any_right(tmp_path: Path) -> None:
    await full_by_order(tmp_path / "nexus.db")


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest_twisted.ensureDeferred
async def test_an_io_error_is_told_and_works_again_once_it_is_over(store: SqliteStore) -> None:
    await store.commit(ONE)
    big = [Sample("b", number, b'{"text":"%b"}' % (b"x" * 5000)) for number in range(1000)]
    with file_size_limit(1024 * 1024):
        assert await refused(store.commit(big)) == "the store's disk reports an I/O error"
        assert await refused(store.commit(big)) == "the store's disk reports an I/O error"
    await store.commit(big)
    assert (await count(store), await count(store, "b")) == (1, 1000)


@pytest_twisted.ensureDeferred
async def test_nothing_is_acknowledged_into_a_file_that_was_removed(store: SqliteStore, path: Path) -> None:
    await store.commit(ONE)
    shutil.rmtree(path.parent)
    assert "removed or replaced" in await refused(store.commit(ONE))
    assert "removed or replaced" in await refused(store.samples("a", 0, 2, 1))
    assert not path.parent.exists()


@pytest_twisted.ensureDeferred
async def test_a_file_that_was_replaced_is_left_alone_until_the_right_one_is_back(store: SqliteStore, path: Path) -> None:
    await store.commit(ONE)
    away = path.parent / "away"
    path.rename(away)
    path.write_text("something else")
    assert "removed or replaced" in await refused(store.commit(ONE))
    assert path.read_text() == "something else"
    away.rename(path)
    await store.commit(ONE)
    assert await count(store) == 2


@pytest_twisted.ensureDeferred
async def test_a_number_beyond_64_bits_is_refused(store: SqliteStore) -> None:
    assert "64 bits" in await refused(store.samples("a", 0, 2**64, 1))


@pytest_twisted.ensureDeferred
async def test_a_busy_interpreter_does_not_slow_a_commit_down_row_by_row(store: SqliteStore) -> None:
    """With one handing-over of the interpreter lock (5 ms) for each row, 5,000 rows would take 25 s."""
    over = threading.Event()
    busy = threading.Thread(target=lambda: [None for _ in iter(over.is_set, True)])
    busy.start()
    begun = time.monotonic()
    try:
        await store.commit([Sample(f"agent-{number % 1000}", number, b'{"n":1}') for number in range(5000)])
    finally:
        over.set()
        busy.join()
    assert time.monotonic() - begun < 10


# --- other processes --------------------------------------------------------------------------------------------------


class Writer(ProcessProtocol):
    """Runs `tests.store.writer` and collects what it says was acknowledged."""

    def __init__(self, path: Path, agent_id: str, batches: int, rows: int) -> None:
        self.output = b""
        self.ended: Deferred[bool] = Deferred()  # whether all went well
        self.told: Callable[[int], None] = lambda acknowledged: None
        root = str(Path(__file__).parents[2])
        arguments = [sys.executable, "-m", "tests.store.writer", f"sqlite:{path}", agent_id, str(batches), str(rows)]
        process: Any = reactor
        process.spawnProcess(self, arguments[0], arguments, {**os.environ, "PYTHONPATH": root}, root, childFDs={1: "r", 2: 2})
        self.ended.addTimeout(PATIENCE, process, onTimeoutCancel=self._too_long)

    def acknowledged(self) -> list[int]:
        # What follows the last line end was cut off by the end of the process.
        return [int(line) for line in self.output.split(b"\n")[:-1]]

    def kill(self) -> None:
        transport: Any = self.transport
        transport.signalProcess("KILL")

    def outReceived(self, data: bytes) -> None:
        self.output += data
        self.told(len(self.acknowledged()))

    def processEnded(self, reason: Failure) -> None:
        if not self.ended.called:
            self.ended.callback(isinstance(reason.value, ProcessDone))

    def _too_long(self, _: object, __: float) -> None:
        self.kill()
        pytest.fail("the writer did not end")


@pytest.mark.parametrize("size", [1, 20])
@pytest_twisted.ensureDeferred
async def test_every_acknowledged_batch_survives_a_kill(path: Path, size: int) -> None:
    writer = Writer(path, "a", 1_000_000, size)
    writer.told = lambda acknowledged: writer.kill() if acknowledged >= 50 else None
    assert not await writer.ended
    acknowledged = writer.acknowledged()
    assert acknowledged == list(range(len(acknowledged)))
    assert len(acknowledged) >= 50
    store = SqliteStore(str(path), reactor)
    await store.start()
    for batch in acknowledged:
        assert len(await store.samples("a", batch, batch + 1, 100)) == size
    after = len(acknowledged)
    # Of a batch that nobody was told of there is all or nothing.
    assert len(await store.samples("a", after, after + 1, 100)) in (0, size)
    await store.stop()


NEVER_STOPPED = """
import sys
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react
from nexus_tw.store import open_store
react(lambda reactor: ensureDeferred(open_store(sys.argv[1], reactor).start()))
"""


def test_a_store_that_nobody_stopped_does_not_keep_its_process_alive(path: Path) -> None:
    arguments = [sys.executable, "-c", NEVER_STOPPED, f"sqlite:{path}"]
    subprocess.run(arguments, cwd=Path(__file__).parents[2], check=True, timeout=PATIENCE)


@pytest_twisted.ensureDeferred
async def test_processes_can_share_a_file_from_its_making_on(path: Path) -> None:
    agents = ["a", "b", "c", "d"]
    writers = [Writer(path, agent_id, 20, 10) for agent_id in agents]
    for writer in writers:
        assert await writer.ended
    store = SqliteStore(str(path), reactor)
    await store.start()
    assert [await count(store, agent_id) for agent_id in agents] == [200] * 4
    await store.stop()


@pytest.mark.parametrize("size", [1, 2])  # a lone sample goes a way of its own
@pytest_twisted.ensureDeferred
async def test_an_agent_that_another_process_forgot_is_known_again_with_its_next_sample(
    store: SqliteStore, path: Path, size: int
) -> None:
    await store.commit(ONE * 2)
    other = SqliteStore(str(path), reactor)
    await other.start()
    assert await other.prune(1 << 40) == 2
    await other.commit([Sample("somebody else", 1, b'{"x":1}')])  # who may have got the same number
    await store.commit(ONE * size)
    assert await count(store) == await count(other) == size
    await other.stop()


@pytest_twisted.ensureDeferred
async def test_a_lone_sample_of_a_known_agent_is_one_statement(store: SqliteStore) -> None:
    statements: list[str] = []
    await store.commit(ONE)
    await store._writer.run(lambda connection: connection.set_trace_callback(statements.append))
    await store.commit(ONE)
    assert [statement.split()[0] for statement in statements] == ["INSERT"]
    assert await count(store) == 2


@pytest.mark.parametrize("size", [1, 2])
@pytest_twisted.ensureDeferred
async def test_an_agent_of_a_batch_that_failed_is_made_with_the_next_one(store: SqliteStore, size: int) -> None:
    await store.commit([Sample("other", 1, b'{"x":1}')])
    await store._writer.run(lambda connection: connection.execute("PRAGMA max_page_count=10").fetchone())
    big = [Sample("a", number, b'{"text":"%b"}' % (b"x" * 500)) for number in range(1000)]
    assert await refused(store.commit(big)) == "the store's disk is full"
    await store._writer.run(lambda connection: connection.execute("PRAGMA max_page_count=100000").fetchone())
    await store.commit(ONE * size)
    assert await count(store) == size
