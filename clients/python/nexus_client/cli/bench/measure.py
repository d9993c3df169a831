"""One measurement from beginning to end: the clients, the load, the bar, the result."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from nexus_client.cli.app import App
from nexus_client.cli.bench.plan import Bounds, Plan
from nexus_client.cli.bench.result import Result, show


class Load(Protocol):
    """A kind of load."""

    def ready(self, app: App) -> AbstractAsyncContextManager[None]:
        """Connect all clients, and disconnect them at the end."""

    async def run(self, plan: Plan) -> None:
        """Make requests until the plan is over, and wait for what they bring about."""

    def result(self, plan: Plan, complete: bool) -> Result:
        """Return what has been counted. What is still under way when a load is not `complete` is no loss."""


async def measure(app: App, load: Load, bounds: Bounds) -> bool:
    """Put a load on the server and show the result, also if it is cancelled. Return whether nothing was wrong."""
    async with load.ready(app):
        plan, worked = Plan(bounds), time.process_time()
        complete = False
        try:
            with _bar(app, plan):
                await load.run(plan)
            complete = True
        finally:
            elapsed = time.monotonic() - plan.began
            result = load.result(plan, complete)
            show(app.output, result, plan, (time.process_time() - worked) / elapsed, not complete)
    return result.passed


@contextlib.contextmanager
def _bar(app: App, plan: Plan) -> Iterator[None]:
    """Keep a bar at the end of a terminal."""
    console = app.output.notes
    if app.output.json or not console.is_terminal:
        yield
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=1.0)

        async def follow() -> None:
            while True:
                last, since = plan.turns, time.monotonic()
                await asyncio.sleep(0.25)
                rate = (plan.turns - last) / (time.monotonic() - since)
                said = "waiting for the last ones" if plan.over else f"{plan.turns:,} requests, {rate:,.0f}/s"
                progress.update(task, completed=plan.part, description=said)

        following = asyncio.get_running_loop().create_task(follow())
        try:
            yield
        finally:
            following.cancel()
