"""`nexus_client`, as its README uses it."""

from __future__ import annotations

import asyncio
from itertools import count

from nexus_client import Event, Nexus

from bench.clients.work import AGENT, BATCH, EVENT, FLIGHT, PUBLISHERS, SENDERS, Work, run, sample, say
from bench.dialects import TOKEN
from bench.errors import Inexact


def client(port: int) -> Nexus:
    return Nexus(f"http://127.0.0.1:{port}", token=TOKEN, agent=AGENT)


async def events(port: int, work: Work) -> None:
    async with client(port) as nexus, nexus.subscribe(EVENT) as stream:
        await stream.accepted()
        say(0)
        async for event in stream:
            if not isinstance(event, Event):
                raise Inexact(f"a gap: {event}")
            work.event(event.data["n"])
            if work.over:
                return


async def samples(port: int, work: Work) -> None:
    numbers = count()
    room = asyncio.Semaphore(BATCH * FLIGHT)

    def acknowledged(stored: asyncio.Future[None]) -> None:
        stored.result()
        room.release()
        work.count()

    async def sender(nexus: Nexus) -> None:
        while not work.over:
            await room.acquire()
            recorded = await nexus.telemetry(sample(next(numbers)))
            recorded.stored.add_done_callback(acknowledged)

    async with client(port) as nexus:
        await nexus.connected()
        await asyncio.gather(*(sender(nexus) for _ in range(SENDERS)))
        for _ in range(BATCH * FLIGHT):
            await room.acquire()


async def publications(port: int, work: Work) -> None:
    async def publisher(nexus: Nexus) -> None:
        while not work.over:
            await nexus.publish(EVENT, {"n": work.total})
            work.count()

    async with client(port) as nexus:
        await nexus.connected()
        await asyncio.gather(*(publisher(nexus) for _ in range(PUBLISHERS)))


if __name__ == "__main__":
    run({"events": events, "samples": samples, "publications": publications})
