"""The process among others: a log that nobody reads, a start that fails, signals; as a daemon and in the foreground."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.threads import deferToThread

from tests.client import Client, dial, greeted, handshake, request
from tests.e2e.server import FOREIGN, ROOT, TWISTD, answers, clock, free_port, until
from tests.redis_server import RedisServer, redis_server

__all__ = ["redis_server"]

TOKEN = "the-token-of-these-tests"
DAEMON = TWISTD[: TWISTD.index("-n")]


def environment(directory: Path, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return clean | {
        "PYTHONPATH": str(ROOT),
        "NEXUS_TOKEN": TOKEN,
        "NEXUS_STORE": f"sqlite:{directory / 'x.db'}",
        "NEXUS_DRAIN": "1",
        **more,
    }


async def alive(port: int) -> int:
    """The status of `/health/live`."""
    wire = await dial(TCP4ClientEndpoint(clock, "127.0.0.1", port))
    wire.write(request("GET", "/health/live", None))
    status = (await wire.response()).status
    wire.drop()
    return status


async def connect(port: int) -> Client:
    wire = await dial(TCP4ClientEndpoint(clock, "127.0.0.1", port))
    wire.write(handshake(token=TOKEN))
    return await greeted(wire)


# --- a log that nobody reads


@pytest_twisted.ensureDeferred
async def test_the_log_does_not_stop_the_server_where_standard_output_is_a_pipe_that_nobody_reads(tmp_path: Path) -> None:
    port = free_port()
    reading, writing = os.pipe()
    smallest = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    command = [*TWISTD, "nexus", "--listen", f"tcp:{port}:interface=127.0.0.1"]
    with subprocess.Popen(
        command, env=environment(tmp_path), cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing
    ) as server:
        os.close(writing)
        try:
            await until(lambda: answers(port), 20)
            for _ in range(2 * smallest // 80):  # a line for each, of more than 80 bytes
                (await connect(port)).wire.drop()
            assert await alive(port) == 200
            server.send_signal(signal.SIGTERM)
            assert await deferToThread(server.wait, 20) in (0, -signal.SIGTERM)
            assert b" left after " in os.read(reading, smallest)
        finally:
            server.kill()
            os.close(reading)


# twistd whose log falls behind: no line is written from the start of the reactor to its end.
BEHIND = """
import threading
from twisted.internet import reactor
from nexus_tw.app import sink
from twisted.scripts.twistd import run

ended = threading.Event()
reactor.addSystemEventTrigger("after", "shutdown", ended.set)

class Behind(sink.Stream):
    def write(self, data):
        if reactor.running:
            ended.wait()
        super().write(data)

sink.Stream = Behind
run()
"""


@pytest_twisted.ensureDeferred
async def test_the_last_lines_are_written_before_the_process_ends_by_its_signal(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", BEHIND, "-n", "--pidfile=", "nexus", "--listen", f"tcp:{port}:interface=127.0.0.1"]
    with subprocess.Popen(
        command, env=environment(tmp_path), cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as server:
        try:
            await until(lambda: answers(port), 20)
            server.send_signal(signal.SIGTERM)
            said, _ = await deferToThread(server.communicate, timeout=60)
        finally:
            server.kill()
    assert server.returncode == -signal.SIGTERM
    assert said.count(b" listens on ") == said.count(b" Nexus has ended") == 1


# --- a start that fails


@pytest.fixture
def taken() -> Iterator[str]:
    """An endpoint whose port is in use."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"


WORKERS = ("--workers", "2", "--bus", "redis://127.0.0.1:1")  # nothing answers there, and no start waits for it


@pytest.mark.parametrize(
    ("twistd", "nexus", "log"),
    [
        ((), (), "twistd.log"),
        (("--logfile=own.log",), (), "own.log"),
        (("--syslog",), (), None),
        ((), WORKERS, "twistd.log"),
        (("-n",), (), None),
        (("-n", "--logfile=own.log"), WORKERS, "own.log"),
    ],
)
@pytest.mark.parametrize("cause", ["port", "store"])
def test_a_daemon_that_cannot_start_says_why_and_exits_non_zero(
    tmp_path: Path, taken: str, twistd: tuple[str, ...], nexus: tuple[str, ...], log: str | None, cause: str
) -> None:
    """In every mode: foreground, daemon with its pid file, workers, a log file, syslog."""
    listen, reason = (taken, "in use") if cause == "port" else ("tcp:0:interface=127.0.0.1", "store.url")
    more = {} if cause == "port" else {"NEXUS_STORE": "sqlite:/dev/null/all.db"}
    ended = subprocess.run(
        [*DAEMON, "--pidfile=n.pid", *twistd, "nexus", "--listen", listen, *nexus],
        env=environment(tmp_path, **more),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1, ended
    first, *others = ended.stderr.splitlines()
    assert first.startswith("nexus: ") and reason in first
    assert not others or others[0].startswith("An error has occurred")  # twistd's, where it is a daemon
    assert not (tmp_path / "n.pid").exists()
    if log is not None:
        assert reason in (tmp_path / log).read_text()


def test_a_log_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*DAEMON, "--logfile=/nowhere/own.log", "nexus"],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == "nexus: --logfile: cannot open /nowhere/own.log: No such file or directory\n"


# --- daemons and signals


class Daemon:
    """`twistd nexus` in the background, as twistd itself puts it there."""

    def __init__(self, directory: Path, *nexus: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.log = directory / "twistd.log"
        self._command = [*DAEMON, "--pidfile=n.pid", "nexus", "--listen", f"tcp:{self.port}:interface=127.0.0.1", *nexus]

    async def start(self) -> None:
        ended = await deferToThread(
            subprocess.run, self._command, env=environment(self.directory), cwd=self.directory, timeout=60, check=False
        )
        assert ended.returncode == 0, self.log.read_text()

    @property
    def pid(self) -> int:
        return int((self.directory / "n.pid").read_text())

    def workers(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def stop(self) -> None:
        self.send(signal.SIGTERM)
        await until(lambda: not (self.directory / "n.pid").exists(), 20)

    def discard(self) -> None:
        if (self.directory / "n.pid").exists():
            for pid in [self.pid, *self.workers()]:
                os.kill(pid, signal.SIGKILL)


@pytest_twisted.async_yield_fixture(params=[False, True])
async def daemon(request: Any, tmp_path: Path, redis_server: RedisServer) -> Any:
    """A daemon that has started, without workers and with."""
    made = Daemon(tmp_path, *(("--workers", "2", "--bus", redis_server.url) if request.param else ()))
    try:
        await made.start()
        yield made
    finally:
        made.discard()


@pytest_twisted.ensureDeferred
async def test_twistd_returns_when_the_daemon_listens_and_workers_log_where_it_logs(daemon: Daemon) -> None:
    assert await alive(daemon.port) == 200
    nodes = max(1, len(daemon.workers()))
    # One worker answers before the other listens, and a thread writes the log.
    await until(lambda: daemon.log.read_text().count(" listens on ") == nodes, 20)
    client = await connect(daemon.port)
    await daemon.stop()
    assert await client.closed() == (1000, "Server shutting down")
    # The last line is written before the file of the process id is removed.
    log = daemon.log.read_text()
    assert log.count(" Nexus has ended") == nodes
    assert "Traceback" not in log


@pytest_twisted.ensureDeferred
async def test_sigusr1_rotates_the_log_and_sighup_opens_it_anew_and_nobody_is_dropped(daemon: Daemon) -> None:
    """The parent and the workers alike: somebody may signal all of them, as systemd can."""
    client = await connect(daemon.port)
    pids = daemon.workers()
    daemon.send(signal.SIGUSR1)
    for pid in pids:
        os.kill(pid, signal.SIGUSR1)
    await until(lambda: (daemon.directory / "twistd.log.1").exists() and "SIGUSR1" in daemon.log.read_text(), 20)
    await client.heard()

    moved = daemon.directory / "moved.log"
    daemon.log.rename(moved)
    daemon.send(signal.SIGHUP)
    for pid in pids:
        os.kill(pid, signal.SIGHUP)
    await until(lambda: daemon.log.exists() and "SIGHUP" in daemon.log.read_text(), 20)
    await client.heard()
    assert daemon.workers() == pids
    client.wire.drop()
    await until(lambda: " left after " in daemon.log.read_text(), 20)
    await daemon.stop()


# --- a terminal that closes


class Foreground:
    """`twistd -n nexus` that was started from a terminal of its own, with its log in a file."""

    def __init__(self, directory: Path, port: int, *args: str, before: tuple[str, ...] = ()) -> None:
        self.log = directory / "own.log"
        command = [*before, *TWISTD, f"--logfile={self.log}", "nexus", "--listen", f"tcp:{port}:interface=127.0.0.1", *args]
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(directory)
                os.execvpe(command[0], command, environment(directory))
            finally:
                os._exit(127)
        self._status: int | None = None

    def logged(self, text: str) -> bool:
        return self.log.exists() and text in self.log.read_text()

    def close_terminal(self) -> None:
        os.close(self._master)
        self._master = -1

    def ended(self) -> bool:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status is not None

    @property
    def status(self) -> int | None:
        return self._status

    def discard(self) -> None:
        if not self.ended():
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self._master >= 0:
            self.close_terminal()


@pytest.mark.parametrize("workers", [(), WORKERS], ids=["alone", "workers"])
@pytest_twisted.ensureDeferred
async def test_a_server_in_the_foreground_reloads_on_sighup_and_shuts_down_when_its_terminal_closes(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    port = free_port()
    server = Foreground(tmp_path, port, *workers)
    try:
        await until(lambda: server.logged(" listens on "), 30)
        client = await connect(port)
        os.kill(server.pid, signal.SIGHUP)
        await until(lambda: server.logged("SIGHUP: the configuration is taken"), 20)
        await client.heard()

        server.close_terminal()
        assert await client.closed() == (1000, "Server shutting down")
        await until(server.ended, 20)
        assert server.status == 0
        assert server.logged("SIGHUP: the terminal has closed")
        assert not server.logged("Traceback")
    finally:
        server.discard()


@pytest_twisted.ensureDeferred
async def test_a_server_under_nohup_outlives_its_terminal_and_reloads_on_sighup(tmp_path: Path) -> None:
    port = free_port()
    server = Foreground(tmp_path, port, before=("nohup",))
    try:
        await until(lambda: server.logged(" listens on "), 30)
        client = await connect(port)
        server.close_terminal()
        await until(lambda: server.logged("SIGHUP: the configuration is taken"), 20)
        await client.heard()
        os.kill(server.pid, signal.SIGTERM)
        assert await client.closed() == (1000, "Server shutting down")
        await until(server.ended, 20)
    finally:
        server.discard()
