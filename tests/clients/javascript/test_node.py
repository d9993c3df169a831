"""The JavaScript client on Node, with npm's `ws` and with Node's own WebSocket."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.javascript.world import AGENT, Server, run_node

FLAGS = {"ws": (), "global": ("--experimental-websocket",)}


@pytest.mark.parametrize("socket", FLAGS)
@pytest.mark.parametrize("program", ["session.test.mjs", "edges.test.mjs"])
def test_node(server: Server, program: str, socket: str) -> None:
    given = {"NEXUS_URL": server.http, "NEXUS_WSS": server.https, "NEXUS_TOKEN": server.token, "NEXUS_AGENT": AGENT}
    run_node(*FLAGS[socket], program, env={**given, "SOCKET": socket})


def test_a_certificate_that_verifies(server: Server, tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    authority.write_text(server.authority)
    given = {"NEXUS_URL": server.https, "NEXUS_TOKEN": server.token, "NODE_EXTRA_CA_CERTS": str(authority)}
    run_node("secure.mjs", env=given)
