"""The JavaScript client on Node, with npm's `ws` and with Node's own WebSocket, against a real server."""

from __future__ import annotations

import pytest

from tests.clients.javascript.world import AGENT, Server, run_node


@pytest.mark.parametrize("socket", ["ws", "global"])
def test_sessions(server: Server, socket: str) -> None:
    own = ["--experimental-websocket"] if socket == "global" else []
    run_node(*own, "session.test.mjs", NEXUS_URL=server.http, NEXUS_TOKEN=server.token, NEXUS_AGENT=AGENT, SOCKET=socket)
