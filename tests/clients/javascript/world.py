"""What the tests of the JavaScript client have in common."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.clients.aio.world import TlsServer as Server

__all__ = ["AGENT", "CLIENT", "CONFIG", "HERE", "Server", "run_node"]

HERE = Path(__file__).parent
CLIENT = HERE.parents[2] / "clients" / "js"
AGENT = "the+token/of=a-1"  # no subprotocol can hold it
CONFIG = f"""
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


def run_node(*arguments: str, cwd: Path = HERE, env: Mapping[str, str] | None = None) -> str:
    """Run a program on Node to its end, which must be a good one; return what it said."""
    done = subprocess.run(
        ["node", *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
