"""Events from publishers to subscribers: each to each, once, in order."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from nexus_client.cli.app import App
from nexus_client.cli.bench.crowd import crowd
from nexus_client.cli.bench.histogram import Histogram
from nexus_client.cli.bench.ledger import Ledger
from nexus_client.cli.bench.plan import Plan
from nexus_client.cli.bench.result import Result
from nexus_client.errors import NexusError

if TYPE_CHECKING:
    from nexus_client import Nexus, Subscription

QUEUE: Final = 1_000_000  # events that may wait in this program for one subscriber


class Fanout:
    """`publishers` send events of a type of this run to `subscribers`, each with `in_flight` unanswered ones at most."""

    def __init__(self, subscribers: int, publishers: int, in_flight: int, size: int) -> None:
        self._shape = subscribers, publishers
        self._in_flight = in_flight
        self._type = f"bench.{uuid.uuid4().hex[:12]}"
        self._padding = "x" * size
        self._sent = [0] * publishers
        self._failed: list[set[int]] = [set() for _ in range(publishers)]
        self._ledgers = [[Ledger() for _ in range(publishers)] for _ in range(subscribers)]
        self._deliveries = Histogram()
        self._answers = Histogram()
        self._gaps = 0
        self._publishers: list[Nexus] = []
        self._streams: list[Subscription] = []

    @asynccontextmanager
    async def ready(self, app: App) -> AsyncIterator[None]:
        subscribers, publishers = self._shape
        async with crowd(app, subscribers + publishers, queue=QUEUE) as clients, AsyncExitStack() as stack:
            self._publishers = clients[:publishers]
            for each in clients[publishers:]:
                self._streams.append(await stack.enter_async_context(each.subscribe(self._type)))
            for stream in self._streams:
                await stream.accepted()
            yield

    async def run(self, plan: Plan) -> None:
        listening = [
            asyncio.create_task(self._listen(plan, stream, ledgers))
            for stream, ledgers in zip(self._streams, self._ledgers, strict=True)
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for number, nexus in enumerate(self._publishers):
                    for _ in range(self._in_flight):
                        group.create_task(self._publish(plan, number, nexus))
            await plan.drained(lambda: not self._lost() or any(task.done() for task in listening))
        finally:
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)

    def result(self, plan: Plan, complete: bool) -> Result:
        subscribers, publishers = self._shape
        ledgers = [each for row in self._ledgers for each in row]
        published = self._answers.count
        received = sum(each.received for each in ledgers)
        faults = {
            "lost": self._lost() if complete else 0,
            "twice": sum(each.repeated for each in ledgers),
            "out of order": sum(each.reordered for each in ledgers),
            "gaps": self._gaps,
            "errors": plan.errors,
        }
        return Result(
            "fanout",
            {"published": published, "delivered": received},
            {"published/s": published / plan.seconds, "delivered/s": received / plan.seconds},
            {"delivered": self._deliveries, "published": self._answers},
            faults,
            f"each of {published:,} events came to {subscribers} subscribers once and in order",
            plan.error,
            {"subscribers": subscribers, "publishers": publishers},
        )

    async def _publish(self, plan: Plan, publisher: int, nexus: Nexus) -> None:
        while (due := await plan.turn()) is not None:
            # From here to the sending nothing else runs, so the numbers are sent in their order.
            number = self._sent[publisher]
            self._sent[publisher] += 1
            data: dict[str, Any] = {"from": publisher, "n": number, "at": due}
            if self._padding:
                data["padding"] = self._padding
            try:
                await nexus.publish(self._type, data)
            except NexusError as error:
                self._failed[publisher].add(number)
                plan.fail(error)
            else:
                self._answers.add(plan.progressed() - due)

    async def _listen(self, plan: Plan, stream: Subscription, ledgers: list[Ledger]) -> None:
        from nexus_client import Gap

        async for item in stream:
            now = plan.progressed()
            if isinstance(item, Gap):
                self._gaps += 1
                continue
            ledgers[item.data["from"]].enter(item.data["n"])
            self._deliveries.add(now - item.data["at"])

    def _lost(self) -> int:
        return sum(
            ledger.lost(sent, failed)
            for ledgers in self._ledgers
            for ledger, sent, failed in zip(ledgers, self._sent, self._failed, strict=True)
        )
