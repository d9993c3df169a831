"""A server with default limits, with roles for the attacks, and compression for clients that offer it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.harm.roles import configuration
from bench.link import Address
from bench.meter import resident, server_cpu
from bench.processes import Process, certificate, environment, free_port, module


@dataclass(frozen=True)
class Node:
    """One running server; `tls` is its second listener."""

    address: Address
    tls: Address
    pids: tuple[int, ...]
    directory: Path
    redis: tuple[int, ...] = ()  # Redis's processes, measured together with the server's

    def cpu(self) -> float:
        """Return the CPU time used so far, in seconds."""
        return server_cpu(self.pids + self.redis)

    def memory(self) -> int:
        """Return the resident memory in bytes."""
        return resident(self.pids + self.redis)

    @contextmanager
    def without_redis(self) -> Iterator[None]:
        """Suspend Redis within the context: its connections stay open, and nothing answers."""
        for pid in self.redis:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in self.redis:
                os.kill(pid, signal.SIGCONT)

    def disk(self) -> int:
        """Return the size of the store's files in bytes."""
        return sum(path.stat().st_size for path in self.directory.glob("nexus.db*"))


@contextmanager
def running(redis: bool = False) -> Iterator[Node]:
    """Start a server with a store of its own on disk, and a Redis of its own if requested; remove all of it afterwards."""
    with TemporaryDirectory(prefix="nexus-harm-") as name, ExitStack() as stack:
        directory = Path(name)
        file = directory / "nexus.toml"
        file.write_text(configuration())
        chain, key = certificate(directory)
        settings = {
            "NEXUS_CONFIG": str(file),
            "NEXUS_STORE": f"sqlite:{directory}/nexus.db",
            "NEXUS_TLS__CERTIFICATE": chain,
            "NEXUS_TLS__KEY": key,
        }
        pids: tuple[int, ...] = ()
        if redis:
            pids, settings["NEXUS_BUS"] = stack.enter_context(_redis(directory))
        port, secure = free_port(), free_port()
        listen = ("--listen", f"tcp:{port}:interface=127.0.0.1", "--listen", f"tls:{secure}:interface=127.0.0.1")
        process = Process("nexus", module("bench.server", *listen), port, directory, environment(**settings), None)
        try:
            process.wait()
            yield Node(Address(port, False), Address(secure, True), process.pids, directory, pids)
        finally:
            process.stop()


@contextmanager
def _redis(directory: Path) -> Iterator[tuple[tuple[int, ...], str]]:
    """Start a Redis without persistence. Return its processes and address."""
    port = free_port()
    words = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(directory), "--port", str(port))
    process = Process("redis", ("redis-server", *words), port, directory, environment(), None)
    try:
        process.wait()
        yield process.pids, f"redis://127.0.0.1:{port}/0"
    finally:
        process.stop()
