"""A client in a process of its own, in one of the languages, that does what it is told and says what happens.

| order | members | ends with |
|---|---|---|
| `token` | `token`, for a client without one, which says `token` when it wants it | at once |
| `subscribe` | `patterns`, `where` | the stream's end |
| `publish` | `type`, `data` | its position |
| `telemetry` | `first`, `last`: a sample for each number | all are stored; `spooled` comes before |
| `call` | `command`, `number`: its parameter, `target`, `retries` | its result |
| `serve` | `command`, which runs until `release` of its number and returns it | at once |
| `release` | `number` | at once |
| `clock` | `by`: seconds by which the wall clock is moved | at once |
| `stats` | | the client's counters |
| `close` | | the end of the process |

Each order has a number `n`. Facts: `done` (`n`, `result`) or `failed` (`n`, `error`, `message`, `code`), one for each order;
`state`, `event`, `gap`, `ran`, `token`, `spooled`, and `over` at the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.server import ROOT, Child, until
from tests.reliability.book import Watcher

Fact = dict[str, Any]

PATIENCE = 30.0  # s for anything, on a busy machine

COMMANDS = {
    "python": [sys.executable, "-m", "tests.clients.faults.driver"],
    "twisted": [sys.executable, "-m", "tests.clients.faults.driver_twisted"],
    "node": ["node", str(Path(__file__).with_name("driver.mjs"))],
}


class Program(Child):
    """A client of a language. `watcher`, if given, is told of each event and each gap."""

    stdin = subprocess.PIPE

    def __init__(self, language: str, directory: Path, name: str, watcher: Watcher | None, options: dict[str, Any]) -> None:
        super().__init__(f"{name}-{language}", directory)
        self.language = language
        self.watcher = watcher
        self.options = options
        self.facts: list[Fact] = []
        self._number = 0
        self._read = 0

    def launch(self) -> None:
        """Start it, or start it again after its end."""
        # Not for Autobahn, whose libraries use much that is deprecated.
        env = {"PYTHONDEVMODE": "1"} if self.language == "python" else {}
        self.spawn([*COMMANDS[self.language], json.dumps(self.options)], {**os.environ, **env}, ROOT)

    def tell(self, do: str, **members: Any) -> int:
        """Give an order. Return its number."""
        self._number += 1
        self.write(json.dumps({"do": do, "n": self._number, **members}).encode() + b"\n")
        return self._number

    async def fact(self, kind: str, after: int = 0, **members: Any) -> Fact:
        """Return the first fact of that kind with these members, now or later; not one of the first `after` facts."""
        found: list[Fact] = []

        def came() -> bool:
            running = self.running
            self.read()
            found[:] = [
                fact for fact in self.facts[after:] if fact["fact"] == kind and members.items() <= fact.items()
            ]
            assert found or running, f"{kind} {members}: it has ended\n{self.output}"
            return bool(found)

        await until(came, PATIENCE, f"for {kind} {members}\n{self.output[-4000:]}")
        return found[0]

    async def result(self, number: int) -> Any:
        """Return the result of an order."""
        return (await self.fact("done", n=number)).get("result")

    @property
    def states(self) -> list[str]:
        self.read()
        return [fact["state"] for fact in self.facts if fact["fact"] == "state"]

    def read(self) -> None:
        """Take note of what was said since the last time."""
        if not self._output.exists():
            return
        with self._output.open("rb") as output:
            output.seek(self._read)
            data = output.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            if line.startswith(b'{"fact"'):
                self._note(json.loads(line))

    def _note(self, fact: Fact) -> None:
        self.facts.append(fact)
        if self.watcher is None:
            return
        if fact["fact"] == "event":
            data = fact["data"]
            message = {"eventType": fact["type"], "position": fact["position"]}
            self.watcher.event(message, data["source"], data["number"])
        elif fact["fact"] == "gap":
            self.watcher.continuity({"eventType": fact["type"], "position": fact["position"], "recovered": False})

    async def close(self) -> None:
        """End it in order; fail if it wrote a traceback or a warning, or its token."""
        if self.running:
            self.tell("close")
        assert await self.ended() == 0, self.output
        self.read()
        for word in ("Traceback", "Warning", "never retrieved", "Unhandled"):
            assert word not in self.output, self.output
