"""The fuzzed node, in a process of its own, and the conditions that must hold whatever it receives."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import treq
from twisted.internet.endpoints import TCP4ClientEndpoint

from tests.client import Client, dial, greeted, handshake
from tests.e2e.server import NexusServer, clock, until

# What a node may remember for long is small here, so that growth is a leak; half an opening is given up soon.
SMALL = {
    "NEXUS_LIMITS__COMMANDS": "200",
    "NEXUS_LIMITS__AGENTS": "200",
    "NEXUS_LIMITS__HANDSHAKE": "1",
    "NEXUS_COMPRESSION__ENABLED": "true",
    "NEXUS_ECHO": "true",
    # Autobahn imports passlib where it is there, for clients that have passwords; that is no line of the node's log.
    "PYTHONWARNINGS": "default,ignore::DeprecationWarning:passlib.utils",
}
PEACE = 20.0  # s after which nothing may be left of a round: longer than any patience of the server's
GROWTH = 64 << 20  # bytes beyond the first rounds: caches of names and answers, and what an allocator does not give back
TOKEN = "fuzz-admin-token"


class Finding(Exception):
    """A condition was violated."""


class Target:
    """A running node. Its control client receives the end of every round, like every other client."""

    def __init__(self, directory: Path, log: str = "json") -> None:
        """`log` is the format of the node's log; a line that is not JSON is a finding."""
        self.server = NexusServer(directory, env={**SMALL, "NEXUS_LOG__FORMAT": log}, token=TOKEN, name="fuzzed")
        self.endpoint = TCP4ClientEndpoint(clock, "127.0.0.1", self.server.port)
        self.slowest = 0.0  # s of a round trip
        self._control: Client | None = None
        self._read = 0
        self._descriptors = 0
        self._memory = 0

    async def start(self) -> None:
        await self.server.start()
        wire = await dial(self.endpoint)
        wire.write(handshake(token=TOKEN))
        self._control = await greeted(wire)
        await self._control.subscribe("fuzz.control")
        await self.trip()
        self._descriptors = self.descriptors()

    def settle(self) -> None:
        """Allocate now the resources for later checks."""
        self._memory = self.memory()

    async def trip(self) -> None:
        """Send an event through the whole node and back."""
        assert self._control is not None
        began = clock.seconds()
        number = f"{began:.6f}"
        try:
            self._control.send(type="publish", eventType="fuzz.control", data=number)
            while (heard := await self._control.receive()).get("data") != number:
                if heard["type"] == "error":
                    raise Finding(f"the control client is told {heard}")
        except Exception as trouble:
            raise Finding(f"the control client is disturbed: {trouble!r}") from None
        self.slowest = max(self.slowest, clock.seconds() - began)

    async def check(self) -> None:
        """Check all conditions. Raise `Finding`."""
        if not self.server.running:
            raise Finding("the node has ended")
        await self.trip()
        try:
            await until(lambda: self.descriptors() <= self._descriptors, PEACE)
        except AssertionError:
            raise Finding(f"{self.descriptors()} descriptors are open, and were {self._descriptors} before") from None
        connections = await self._gauge("nexus_connections")
        if connections != 1:
            raise Finding(f"{connections:g} connections are open, and only one client is there")
        if self._memory and self.memory() > self._memory + GROWTH:
            raise Finding(f"memory grew from {self._memory >> 20} to {self.memory() >> 20} MiB")
        faults = list(logged_faults(self._new_output()))
        if faults:
            raise Finding("in the log: " + "\n".join(faults))

    async def stop(self) -> None:
        if self._control is not None:
            self._control.drop()
        status = await self.server.stop()
        if status not in (0, -signal.SIGTERM):  # as twistd ends
            raise Finding(f"the node ended with status {status}")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.server.pid}/fd"))

    def memory(self) -> int:
        """Return the resident memory in bytes."""
        return int(Path(f"/proc/{self.server.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async def _gauge(self, name: str) -> float:
        answer = await treq.get(f"{self.server.http}/metrics?token={TOKEN}", persistent=False)
        for line in (await treq.text_content(answer)).splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise Finding(f"the metric {name} is not told")

    def _new_output(self) -> str:
        output = self.server.output
        new, self._read = output[self._read :], len(output)
        return new


def logged_faults(output: str) -> Iterator[str]:
    """Yield the lines of a JSON log that no client may cause: errors, tracebacks, and malformed lines."""
    for line in output.splitlines():
        try:
            event = json.loads(line)
            fault = event["level"] in ("error", "critical") or "traceback" in event
        except (ValueError, TypeError, KeyError):
            fault = True
        if fault:
            yield line
