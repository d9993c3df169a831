"""The JavaScript client: its own tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "clients" / "js"


def test_its_own_tests() -> None:
    done = subprocess.run(["node", "--test", "test/"], cwd=CLIENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
