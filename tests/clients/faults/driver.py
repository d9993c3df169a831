"""A program on the Python client that does what it is told: `python -m tests.clients.faults.driver OPTIONS`.

OPTIONS is a JSON object: `url`; `token`, without which orders give one whenever the client wants it; `agent`; `spool`, a file;
`authority`, a file of certificates. Each line of standard input is an order, each line of standard output a fact:
`program.py` lists them.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections import defaultdict
from typing import Any

from nexus_client import Gap, Nexus, NexusError, Spool

from tests.clients.faults.facts import Order, say, shown


class Driver:
    def __init__(self, options: Order) -> None:
        self._tokens: asyncio.Queue[str] = asyncio.Queue()
        self._released: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self._tasks: set[asyncio.Task[None]] = set()
        token = options.get("token", self._token)
        spool = Spool(options["spool"]) if "spool" in options else None
        tls = ssl.create_default_context(cafile=options["authority"]) if "authority" in options else None
        self.nexus = Nexus(options["url"], token=token, agent=options.get("agent"), spool=spool, tls=tls)
        self.nexus.on_state(self._state)

    async def _token(self) -> str:
        say(fact="token")
        return await self._tokens.get()

    def _state(self, state: Any) -> None:
        error = None if state.error is None else type(state.error).__name__
        say(fact="state", state=state.state, retryIn=state.retry_in, error=error, reason=state.reason)

    async def run(self) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        async with self.nexus:
            while line := await reader.readline():
                order = json.loads(line)
                if order["do"] == "close":
                    break
                task = asyncio.create_task(self._obey(order))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        pipe.close()
        say(fact="over")

    async def _obey(self, order: Order) -> None:
        number = order.get("n")
        try:
            result = await getattr(self, f"do_{order['do']}")(order)
        except NexusError as error:
            say(fact="failed", n=number, **shown(error))
        else:
            say(fact="done", n=number, result=result)

    async def do_token(self, order: Order) -> None:
        self._tokens.put_nowait(order["token"])

    async def do_subscribe(self, order: Order) -> None:
        async with self.nexus.subscribe(*order["patterns"], where=order.get("where")) as stream:
            async for item in stream:
                if isinstance(item, Gap):
                    say(fact="gap", type=item.type, reason=item.reason, position=item.position, since=item.since)
                else:
                    say(fact="event", type=item.type, data=item.data, position=item.position)

    async def do_publish(self, order: Order) -> Any:
        return await self.nexus.publish(order["type"], order["data"])

    async def do_telemetry(self, order: Order) -> None:
        """Spool samples with these numbers; `done` once all are stored."""
        samples = [await self.nexus.telemetry(number=number) for number in range(order["first"], order["last"] + 1)]
        say(fact="spooled", n=order["n"])
        for sample in samples:
            await sample.stored

    async def do_call(self, order: Order) -> Any:
        return await self.nexus.call(
            order["command"], {"number": order["number"]}, target=order["target"], timeout=30, retries=order["retries"]
        )

    async def do_serve(self, order: Order) -> None:
        """Serve a command that says that it runs and returns once it is released."""

        @self.nexus.command(order["command"])
        async def run(call: Any, number: int) -> dict[str, int]:
            say(fact="ran", number=number)
            await self._released[number].wait()
            return {"number": number}

    async def do_release(self, order: Order) -> None:
        self._released[order["number"]].set()

    async def do_clock(self, order: Order) -> None:
        """Set this process's wall clock by so many seconds."""
        real = time.time
        time.time = lambda: real() + order["by"]

    async def do_stats(self, order: Order) -> Any:
        return {name: getattr(self.nexus.stats, name) for name in ("attempts", "gaps", "events", "duplicates", "garbage")}


if __name__ == "__main__":
    asyncio.run(Driver(json.loads(sys.argv[1])).run())
