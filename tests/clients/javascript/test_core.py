"""The JavaScript client: its own tests, which need no server."""

from __future__ import annotations

from tests.clients.javascript.world import CLIENT, run_node


def test_its_own_tests() -> None:
    run_node("--test", "test/", cwd=CLIENT)
