"""Commands through an agent that this program serves itself: each is executed once, and answered with its own result."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from nexus_client import Call
from nexus_client.cli.app import App
from nexus_client.cli.bench.crowd import crowd
from nexus_client.cli.bench.histogram import Histogram
from nexus_client.cli.bench.plan import Plan
from nexus_client.cli.bench.result import Result
from nexus_client.errors import NexusError

if TYPE_CHECKING:
    from nexus_client import Nexus

TTL: Final = 10.0  # s until the agent has registered


class Calls:
    """`callers` call a command of this run, each with `in_flight` unanswered ones at most."""

    def __init__(self, callers: int, in_flight: int) -> None:
        self._shape = callers, in_flight
        self._command = f"bench.{uuid.uuid4().hex[:12]}"
        self._executed = bytearray()  # by number: how often, up to 255
        self._called = 0
        self._wrong = 0
        self._answers = Histogram()
        self._callers: list[Nexus] = []

    @asynccontextmanager
    async def ready(self, app: App) -> AsyncIterator[None]:
        callers, in_flight = self._shape
        async with crowd(app, 1 + callers, handlers=callers * in_flight) as (agent, *others):
            self._callers = others
            agent.command(self._command)(self._execute)
            await others[0].call(self._command, {"n": -1}, ttl=TTL)
            yield

    async def run(self, plan: Plan) -> None:
        async with asyncio.TaskGroup() as group:
            for nexus in self._callers:
                for _ in range(self._shape[1]):
                    group.create_task(self._call(plan, nexus))

    def result(self, plan: Plan, complete: bool) -> Result:
        answered = self._answers.count
        faults = {
            "not answered": self._called - answered - self._wrong - plan.errors if complete else 0,
            "not executed": self._executed.count(0) if complete else 0,
            "executed twice": sum(times > 1 for times in self._executed),
            "wrong answers": self._wrong,
            "errors": plan.errors,
        }
        return Result(
            "command",
            {"called": self._called, "answered": answered},
            {"answered/s": answered / plan.seconds},
            {"round trip": self._answers},
            faults,
            f"each of {answered:,} commands was executed once and answered",
            plan.error,
            {"callers": self._shape[0]},
        )

    async def _call(self, plan: Plan, nexus: Nexus) -> None:
        while (due := await plan.turn()) is not None:
            number, self._called = self._called, self._called + 1
            self._executed.append(0)
            try:
                result = await nexus.call(self._command, {"n": number})
            except NexusError as error:
                plan.fail(error)
                continue
            duration = plan.progressed() - due
            if result == number:
                self._answers.add(duration)
            else:
                self._wrong += 1

    async def _execute(self, _call: Call, n: int) -> int:
        if n >= 0:
            self._executed[n] = min(255, self._executed[n] + 1)
        return n
