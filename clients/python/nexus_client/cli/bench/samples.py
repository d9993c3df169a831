"""Telemetry: samples of agents, each acknowledged once it is stored."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from nexus_client.cli.app import App
from nexus_client.cli.bench.crowd import crowd
from nexus_client.cli.bench.fanout import QUEUE
from nexus_client.cli.bench.histogram import Histogram
from nexus_client.cli.bench.ledger import Ledger
from nexus_client.cli.bench.plan import Plan
from nexus_client.cli.bench.result import Result
from nexus_client.errors import NexusError

if TYPE_CHECKING:
    from nexus_client import Nexus, Subscription

GLANCE: Final = 0.5  # s between looks at whether the load is over


class Samples:
    """Each of `agents` sends samples of `metrics` figures, `in_flight` unacknowledged ones at most.

    With `watch` a subscriber counts the `telemetry.received` of each.
    """

    def __init__(self, agents: int, in_flight: int, metrics: int, watch: bool) -> None:
        self._run = f"bench-{uuid.uuid4().hex[:12]}-"
        self._metrics = {f"m{number}": 20.5 for number in range(metrics - 1)}
        self._in_flight = in_flight
        self._sent = [0] * agents
        self._stored = 0
        self._acknowledgements = Histogram()
        self._ledgers = [Ledger() for _ in range(agents)] if watch else []
        self._gaps = 0
        self._agents: list[Nexus] = []
        self._watched: Subscription | None = None

    @asynccontextmanager
    async def ready(self, app: App) -> AsyncIterator[None]:
        count = len(self._sent)
        async with crowd(app, count + bool(self._ledgers), queue=QUEUE) as clients, AsyncExitStack() as stack:
            self._agents = clients[:count]
            if self._ledgers:
                stream = clients[-1].subscribe("telemetry.received", where={"agentId": {"prefix": self._run}})
                self._watched = await stack.enter_async_context(stream)
                await stream.accepted()
            yield

    async def run(self, plan: Plan) -> None:
        watching = asyncio.create_task(self._watch(plan))
        try:
            async with asyncio.TaskGroup() as group:
                for number, nexus in enumerate(self._agents):
                    group.create_task(self._send(plan, number, nexus))
            await plan.drained(lambda: self._stored + plan.errors >= sum(self._sent) and not self._unseen())
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    def result(self, plan: Plan, complete: bool) -> Result:
        sent = sum(self._sent)
        faults = {"not acknowledged": sent - self._stored - plan.errors if complete else 0, "errors": plan.errors}
        if self._ledgers:
            faults |= {
                "unseen": self._unseen() if complete else 0,
                "seen twice": sum(each.repeated for each in self._ledgers),
                "out of order": sum(each.reordered for each in self._ledgers),
                "gaps": self._gaps,
            }
        seen = " and was announced once, in order" if self._ledgers else ""
        return Result(
            "telemetry",
            {"sent": sent, "stored": self._stored},
            {"stored/s": self._stored / plan.seconds},
            {"acknowledged": self._acknowledgements},
            faults,
            f"each of {sent:,} samples of {len(self._sent)} agents was stored{seen}",
            plan.error,
            {"agents": len(self._sent)},
        )

    async def _send(self, plan: Plan, agent: int, nexus: Nexus) -> None:
        room = asyncio.Semaphore(self._in_flight)

        def stored(outcome: asyncio.Future[None], due: float) -> None:
            room.release()
            if outcome.cancelled():
                return
            error = outcome.exception()
            if error is None:
                self._stored += 1
                self._acknowledgements.add(plan.progressed() - due)
            elif isinstance(error, Exception):
                plan.fail(error)

        while await _acquire(room, plan):
            due = await plan.turn()
            if due is None:
                return
            number = self._sent[agent]
            self._sent[agent] += 1
            try:
                recorded = await nexus.telemetry({"n": number, **self._metrics}, agent=f"{self._run}{agent}")
            except (NexusError, OSError) as error:
                room.release()
                plan.fail(error)
                continue
            recorded.stored.add_done_callback(lambda outcome, due=due: stored(outcome, due))  # type: ignore[misc]

    async def _watch(self, plan: Plan) -> None:
        from nexus_client import Gap

        if self._watched is None:
            return
        async for item in self._watched:
            plan.progressed()
            if isinstance(item, Gap):
                self._gaps += 1
            else:
                self._ledgers[int(item.data["agentId"].rpartition("-")[2])].enter(item.data["metrics"]["n"])

    def _unseen(self) -> int:
        return sum(ledger.lost(sent) for ledger, sent in zip(self._ledgers, self._sent, strict=True)) if self._ledgers else 0


async def _acquire(room: asyncio.Semaphore, plan: Plan) -> bool:
    """Wait for room for one more sample. Return whether there is any; not once the load is over or stands still."""
    while not plan.over:
        try:
            async with asyncio.timeout(GLANCE):
                return await room.acquire()
        except TimeoutError:
            if plan.stands_still:
                break
    return False
