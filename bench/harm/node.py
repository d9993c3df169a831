"""A server as shipped: no limit is changed, but there are roles to attack it with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.harm.roles import configuration
from bench.link import Address
from bench.meter import resident, server_cpu
from bench.processes import Process, certificate, environment, free_port, module


@dataclass(frozen=True)
class Node:
    """One running server; `tls` is a second listener of it."""

    address: Address
    tls: Address
    pids: tuple[int, ...]
    directory: Path

    def cpu(self) -> float:
        """CPU time used so far, s."""
        return server_cpu(self.pids)

    def memory(self) -> int:
        """What is resident, bytes."""
        return resident(self.pids)

    def disk(self) -> int:
        """Size of the store's files, bytes."""
        return sum(path.stat().st_size for path in self.directory.glob("nexus.db*"))


@contextmanager
def running() -> Iterator[Node]:
    """A new server, with a store of its own on the disk; gone afterwards."""
    with TemporaryDirectory(prefix="nexus-harm-") as name:
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
        port, secure = free_port(), free_port()
        listen = ("--listen", f"tcp:{port}:interface=127.0.0.1", "--listen", f"tls:{secure}:interface=127.0.0.1")
        process = Process("nexus", module("bench.server", *listen), port, directory, environment(**settings), None)
        try:
            process.wait()
            yield Node(Address(port, False), Address(secure, True), process.pids, directory)
        finally:
            process.stop()
