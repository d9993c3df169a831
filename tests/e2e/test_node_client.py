"""Clients on Node with npm's `ws`, by ws and by wss: somebody else's WebSocket, TLS and JSON."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest_twisted

from tests.certificates import authority, issue
from tests.e2e.clients import Clients
from tests.e2e.server import ROOT, Child, NexusServer, free_port, until

CLIENTS = Path(__file__).parent / "clients"


@dataclass
class Nodes:
    """A server that listens by ws and by wss, and programs of Node that use it."""

    directory: Path
    server: NexusServer
    wss: str

    def run(self, script: str, *arguments: str) -> Child:
        child = Child(Path(script).stem, self.directory)
        env = {**os.environ, "NODE_EXTRA_CA_CERTS": str(self.directory / "authority.pem")}
        child.spawn(["node", str(CLIENTS / script), *arguments], env, ROOT)
        return child

    async def converse(self, url: str, carrier: str) -> None:
        child = self.run("conversation.mjs", url, self.server.token, carrier)
        try:
            assert await child.ended(60) == 0, child.output
        finally:
            child.discard()


@pytest_twisted.async_yield_fixture
async def nodes(tmp_path: Path) -> Any:
    (tmp_path / "authority.pem").write_bytes(authority().certificate_pem())
    certificate, key = issue().write(tmp_path, "server")
    port = free_port()
    server = NexusServer(
        tmp_path,
        *("--listen", f"tls:{port}:interface=127.0.0.1"),
        env={"NEXUS_TLS__CERTIFICATE": certificate, "NEXUS_TLS__KEY": key},
    )
    try:
        await server.start()
        yield Nodes(tmp_path, server, f"wss://localhost:{port}/api/v1/events")
    finally:
        server.discard()


@pytest_twisted.ensureDeferred
async def test_agent_and_watcher_work_by_ws_with_the_token_in_the_query(nodes: Nodes) -> None:
    await nodes.converse(nodes.server.ws, "query")


@pytest_twisted.ensureDeferred
async def test_agent_and_watcher_work_by_wss_with_the_token_in_a_header(nodes: Nodes) -> None:
    await nodes.converse(nodes.wss, "header")


@pytest_twisted.ensureDeferred
async def test_a_client_that_comes_back_is_told_to_before_a_restart_and_served_after_it(
    nodes: Nodes, clients: Clients
) -> None:
    child = nodes.run("returning.mjs", nodes.wss, nodes.server.token, "build.done")

    def said() -> list[dict[str, Any]]:
        return [json.loads(line) for line in child.output.splitlines() if line.startswith("{")]

    async def has_said(what: dict[str, Any], times: int = 1) -> None:
        await until(lambda: said().count(what) == times, 30, f"for {what}:\n{child.output}")

    try:
        await has_said({"subscribed": "build.done"})
        await nodes.server.stop()
        await has_said({"closed": 1000, "reason": "Server shutting down"})
        assert said()[1:] == [{"reconnect": True}, {"closed": 1000, "reason": "Server shutting down"}]
        await nodes.server.start()
        await has_said({"subscribed": "build.done"}, 2)
        # Without a farewell, as when the machine fails.
        await nodes.server.kill()
        await has_said({"closed": 1006, "reason": ""})
        await nodes.server.start()
        await has_said({"subscribed": "build.done"}, 3)
        await (await clients.connect(nodes.server)).publish("build.done", 1)
        await has_said({"event": 1})
    finally:
        child.discard()
