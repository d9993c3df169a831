"""Connections: how fast they open, and whether all stay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from nexus_client.cli.app import App
from nexus_client.cli.bench.crowd import make_room
from nexus_client.cli.bench.histogram import Histogram
from nexus_client.cli.bench.plan import Plan
from nexus_client.cli.bench.result import Result
from nexus_client.cli.link import connected, plain
from nexus_client.errors import NexusError, NotConnected

if TYPE_CHECKING:
    from nexus_client import Nexus, State


class Connects:
    """Opens up to `count` connections, `at_once` at a time, and keeps all of them until the last one is open."""

    def __init__(self, count: int, at_once: int) -> None:
        self._count = count
        self._at_once = at_once
        self._begun = 0
        self._open: list[Nexus] = []
        self._dropped = 0
        self._durations = Histogram()
        self._app: App | None = None

    @asynccontextmanager
    async def ready(self, app: App) -> AsyncIterator[None]:
        make_room(self._count)
        self._app = app
        async with connected(app):  # tells what is wrong before all others do
            try:
                yield
            finally:
                await asyncio.gather(*(each.close(0) for each in self._open))

    async def run(self, plan: Plan) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._connect(plan))
        self._dropped = sum(each.stats.attempts > 1 for each in self._open)

    def result(self, plan: Plan, complete: bool) -> Result:
        opened = self._durations.count
        faults = {
            "not opened": self._begun - opened - plan.errors if complete else 0,
            "dropped": self._dropped,
            "errors": plan.errors,
        }
        return Result(
            "connect",
            {"opened": opened},
            {"opened/s": opened / plan.seconds},
            {"opened": self._durations},
            faults,
            f"each of {opened:,} connections was opened at the first attempt, and all were open at once",
            plan.error,
            {"at once": self._at_once},
        )

    async def _connect(self, plan: Plan) -> None:
        assert self._app is not None
        while (due := await plan.turn()) is not None:
            self._begun += 1
            nexus = self._app.client()
            self._open.append(nexus)
            first: asyncio.Future[State] = asyncio.get_running_loop().create_future()

            def changed(state: State, first: asyncio.Future[State] = first) -> None:
                if state.state != "connecting" and not first.done():
                    first.set_result(state)

            nexus.on_state(changed)
            await nexus.__aenter__()
            state = await first
            if state.state == "connected":
                self._durations.add(plan.progressed() - due)
            else:
                error: NexusError = state.error or NotConnected(plain(state.reason))
                plan.fail(error)
                await nexus.close(0)
