"""Programs that try out a client in a process of their own, case by case (`clients/cases.py`, `clients/cases.mjs`)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest_twisted
from twisted.internet.defer import ensureDeferred

from tests.e2e.server import ROOT, Child
from tests.wamp.users import USERS

CLIENTS: Final = Path(__file__).parent / "clients"
MOST = 120  # s that a program may take, on a busy machine


class Program:
    """One that has been run: what it said of each case."""

    def __init__(self, directory: Path, name: str, command: list[str]) -> None:
        child = Child(name, directory)
        try:
            child.spawn(command, {**os.environ, "PYTHONPATH": str(ROOT)}, ROOT)
            pytest_twisted.blockon(ensureDeferred(child.ended(MOST)))
        finally:
            child.discard()
        self.output = child.output
        said = [json.loads(line) for line in self.output.splitlines() if line.startswith('{"case"')]
        self.troubles: dict[str, str] = {line["case"]: line["trouble"] for line in said}

    def passed(self, case: str) -> bool:
        """Return whether that case was run without trouble; otherwise report the trouble."""
        assert case in self.troubles, f"{case} was not run:\n{self.output[-5000:]}"
        assert not self.troubles[case], self.troubles[case]
        return True


def users(methods: Iterable[str]) -> str:
    """As JSON, by name, the users of these methods."""
    return json.dumps({name: user._asdict() for name, user in USERS.items() if user.method in methods})
