"""Health checks as a front makes them where nobody has configured what to ask."""

from __future__ import annotations

import os

import pytest
import pytest_twisted

from tests.e2e.server import Child, free_port
from tests.node import Nodes, until

CONFIGURATION = """\
global
    log stdout format raw local0
defaults
    mode http
    timeout connect 2s
    timeout client 5s
    timeout server 5s
    log global
frontend in
    bind 127.0.0.1:{front}
    default_backend nodes
backend nodes
    option httpchk
    option log-health-checks
    server node 127.0.0.1:{node} check inter 100ms {word}
"""


@pytest.mark.parametrize("word", ["", "send-proxy"])
@pytest_twisted.ensureDeferred
async def test_options_of_the_root_is_haproxys_default_check_and_passes(nodes: Nodes, word: str) -> None:
    """A server that is checked as something else than it is shows that the check looks."""
    node = await nodes()
    text = CONFIGURATION.format(front=free_port(), node=node.port, word=word)
    (nodes.directory / "haproxy.cfg").write_text(text)
    haproxy = Child("haproxy", nodes.directory)
    haproxy.spawn(["haproxy", "-db", "-f", str(nodes.directory / "haproxy.cfg")], os.environ, nodes.directory)
    try:
        await until(lambda: "Health check for server nodes/node" in haproxy.output)
        passed = "succeeded, reason: Layer7 check passed, code: 204" in haproxy.output
        assert passed == (not word), haproxy.output
    finally:
        haproxy.discard()
