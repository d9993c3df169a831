"""What the tests of the asyncio client have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nexus_client import Event, Gap, Nexus, State, Subscription

from tests.certificates import authority, issue
from tests.clients.looped import within
from tests.e2e.server import NexusServer, free_port

AGENT = "the-token-of-a-1"
ROLES = f"""
[heartbeat]
interval = 1
timeout = 5

[roles.agent]
subscribe = ["task.**", "agent.**"]
publish = ["task.**"]
call = ["*"]
register = ["*"]
telemetry = ["{{subject}}"]

[[auth.keys]]
subject = "a-1"
role = "agent"
hash = "sha256:{hashlib.sha256(AGENT.encode()).hexdigest()}"
"""


class TlsServer(NexusServer):
    """Listens with TLS on a second port."""

    def __init__(self, directory: Path, *args: str) -> None:
        certificate, key = issue("localhost").write(directory, "server")
        port = free_port()
        listen = f"ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
        super().__init__(directory, *args, "--listen", listen)
        self.https = f"https://localhost:{port}"
        self.authority = authority().certificate_pem().decode()


Make = Callable[..., Nexus]


async def take(stream: Subscription, count: int) -> list[Event | Gap]:
    return [await within(anext(stream)) for _ in range(count)]


def data(items: list[Event | Gap]) -> list[Any]:
    return [item.data if isinstance(item, Event) else item.reason for item in items]


def impatient(nexus: Nexus) -> Nexus:
    """Let a client try again at once whenever it would wait."""

    @nexus.on_state
    async def hasten(state: State) -> None:
        if state.state == "waiting":
            nexus.woke()

    return nexus
