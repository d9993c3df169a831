"""All cells of one life at once: a house, a program for each client with its cells in it, and the outcome of each cell."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.task import deferLater

from tests.e2e.server import ROOT, Child, clock
from tests.field.house import PATIENCE, House
from tests.field.matrix import Cell

LOOK = 0.05  # s between two looks at what programs have said


class Said(NamedTuple):
    """A line of a program's output, with its time."""

    at: float
    line: dict[str, Any]


class Outcome(NamedTuple):
    """The outcome of a cell: its troubles, none if it succeeded; a short description of its behaviour; and the seconds until
    its reconnect, if it was disconnected."""

    troubles: list[str]
    notes: list[str]
    back: float | None = None


class Story:
    """All output of one cell's client so far, and the findings about it."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.said: list[Said] = []
        self.troubles: list[str] = []
        self.notes: list[str] = []
        self.back: float | None = None
        self.marked = 0.0

    def of(self, event: str) -> list[Said]:
        return [each for each in self.said if each.line["event"] == event]

    def count(self, event: str) -> int:
        return len(self.of(event))

    def last(self, event: str) -> dict[str, Any] | None:
        found = self.of(event)
        return found[-1].line if found else None

    def heard(self, number: int) -> bool:
        return any(each.line["data"] == {"n": number} for each in self.of("heard"))

    @property
    def failed(self) -> bool:
        """Whether it has reported that it cannot continue."""
        return bool(self.of("failed"))

    @property
    def listens(self) -> bool:
        return self.cell.client.carrier != "http"

    @property
    def notices(self) -> bool:
        """Whether its library detects the end of a connection in this life."""
        cell = self.cell
        return not any(fnmatchcase(f"{cell.way}-{cell.life}", pattern) for pattern in cell.client.deaf)

    @property
    def returns(self) -> bool:
        return self.cell.client.returns and self.notices

    @property
    def told(self) -> tuple[bool, str] | None:
        line = self.last("told")
        return None if line is None else (line["reconnect"], line["reason"])

    @property
    def closed(self) -> tuple[int | None, str]:
        line = self.last("closed") or {}
        return line.get("code"), line.get("reason", "")

    def came_back(self) -> None:
        """Record the time of the reconnect: from when it was possible until the new subscription."""
        self.back = max(0.0, self.of("open")[-1].at - self.marked)

    def check(self, true: bool, trouble: str) -> None:
        if not true:
            self.troubles.append(trouble)

    def note(self, what: str) -> None:
        self.notes.append(what)


class Program(Child):
    """One client's process."""

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(name, directory)
        self._read = 0

    def new(self) -> list[dict[str, Any]]:
        """Return the lines about cells since the last call."""
        if not self._output.exists():
            return []
        with self._output.open("rb") as output:
            output.seek(self._read)
            whole, newline, _rest = output.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        return [json.loads(line) for line in whole.splitlines() if line.startswith(b'{"cell"')]

    def everything(self) -> list[int]:
        """Return the process and all its descendants."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                number = int(entry.name)
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(number)
        found = [self.pid]
        for number in found:
            found += children.get(number, [])
        return found


class Wave:
    """The cells of one life."""

    def __init__(self, cells: Sequence[Cell], directory: Path) -> None:
        life = cells[0].life
        self._life = life
        self.stories = [Story(cell) for cell in cells]
        self._by_name = {str(story.cell): story for story in self.stories}
        self.house = House(directory, dict.fromkeys(cell.way for cell in cells), life.settings, life.relayed)
        self._programs: dict[Any, Program] = {}  # by client

    async def run(self) -> dict[Cell, Outcome]:
        """Return the outcome of each cell, even after failures."""
        try:
            await self.house.start()
            self._launch()
            await self._life.act(self)
        except Exception as error:
            for story in self.stories:
                story.troubles.append(f"{type(error).__name__}: {error}")
        finally:
            self._end()
        return {story.cell: Outcome(story.troubles, story.notes, story.back) for story in self.stories}

    async def each(self, what: str, true: Callable[[Story], object], stories: Iterable[Story] | None = None) -> None:
        """Wait until the condition holds for each cell without trouble; cells for which it does not within `PATIENCE`, or whose
        program reports a failure, are in trouble from then on."""
        waiting = [story for story in (self.stories if stories is None else stories) if not story.troubles]
        end = clock.seconds() + PATIENCE
        while True:
            self._look()
            waiting = [story for story in waiting if not true(story)]
            if all(story.failed or self._ended(story) for story in waiting) or clock.seconds() > end:
                break
            await deferLater(clock, LOOK)
        for story in waiting:
            said = [each.line for each in story.said[-4:]]
            ended = f"; its program ended:\n{self._ended(story)}" if self._ended(story) else ""
            story.troubles.append(f"waited in vain until it {what}; it said {said}{ended}")

    def mark(self) -> None:
        """Note the time from which on all clients can reconnect."""
        for story in self.stories:
            story.marked = clock.seconds()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes of each client."""
        for program in self._programs.values():
            for pid in program.everything():
                os.kill(pid, number)

    def _launch(self) -> None:
        environment = self.house.environment()
        by_client: dict[Any, list[Cell]] = {}
        for story in self.stories:
            by_client.setdefault(story.cell.client, []).append(story.cell)
        for client, cells in by_client.items():
            program = Program(client.name, self.house.directory)
            arguments = json.dumps([self._told(cell) for cell in cells])
            program.spawn([*client.command, arguments], environment, ROOT)
            self._programs[client] = program

    def _ended(self, story: Story) -> str:
        """Return the end of what its program wrote, or nothing while the program runs."""
        program = self._programs[story.cell.client]
        return "" if program.running else program.output[-2000:] or "without a word"

    def _told(self, cell: Cell) -> dict[str, Any]:
        """Return a cell in the form for its program (`programs/cells.py`)."""
        address = self.house.address(cell.way)
        return {
            "name": str(cell),
            "host": address.host,
            "port": address.port,
            "unix": address.unix,
            "secure": cell.way.secure,
            "token": self._life.token or self.house.server.token,
            "talks": self._life.name == "talks",
            "topics": list(self._life.topics),
        }

    def _look(self) -> None:
        for program in self._programs.values():
            for line in program.new():
                self._by_name[line["cell"]].said.append(Said(clock.seconds(), line))

    def _end(self) -> None:
        programs = self._programs.values()
        for program in programs:
            if program.running:
                program.signal(signal.SIGTERM)
        for program in programs:
            with suppress(Exception):
                program.wait(10)
            program.discard()
        self.house.discard()
