"""Runs cells: life by life, several lives at a time, each with all its cells at once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred, gatherResults

from tests.field.matrix import Cell
from tests.field.wave import Outcome, Wave

AT_ONCE: Final = 3  # lives; each has a server and a process for each client


async def run(cells: Iterable[Cell], directory: Path, at_once: int = AT_ONCE) -> dict[Cell, Outcome]:
    """Return the outcome of each cell; `directory` gets the programs' output, in a folder for each life."""
    lives: dict[str, list[Cell]] = {}
    for cell in cells:
        lives.setdefault(cell.life.name, []).append(cell)
    turns = DeferredSemaphore(at_once)

    def live(name: str, together: list[Cell]) -> Deferred[dict[Cell, Outcome]]:
        place = directory / name
        place.mkdir()
        return ensureDeferred(Wave(together, place).run())

    started = [turns.run(live, name, together) for name, together in lives.items()]
    return {cell: outcome for outcomes in await gatherResults(started) for cell, outcome in outcomes.items()}
