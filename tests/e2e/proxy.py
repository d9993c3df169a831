"""A proxy with a shipped configuration in front of nodes, started as a process of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.certificates import authority
from tests.e2e.server import Child, free_port

Render = Callable[[Path, int, int, Sequence[int]], str]
"""Return the configuration for a directory, the ports for http and https, and those of the nodes."""


class Proxy(Child):
    """A proxy in front of two nodes, given by their ports; `https` and `wss` are its addresses for clients."""

    def __init__(self, name: str, directory: Path, configuration: str, render: Render, servers: Sequence[int]) -> None:
        """`configuration` is the name of its file."""
        super().__init__(name, directory)
        self._directory = directory
        self._conf = directory / configuration
        self.http_port, self.port = free_port(), free_port()
        self.https = f"https://localhost:{self.port}"
        self.wss = f"wss://localhost:{self.port}/api/v1/events"
        self._conf.write_text(render(directory, self.http_port, self.port, servers))
        self.authority = directory / "authority.pem"
        self.authority.write_bytes(authority().certificate_pem())

    def test(self) -> subprocess.CompletedProcess[str]:
        """Have the proxy itself check its configuration."""
        raise NotImplementedError

    def launch(self) -> None:
        """Start the proxy without waiting."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start the proxy, and wait until it serves."""
        raise NotImplementedError

    @property
    def explained(self) -> str:
        """Its log lines about nodes and requests."""
        raise NotImplementedError
