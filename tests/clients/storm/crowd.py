"""Many clients in one process: `python -m tests.clients.storm.crowd URL TOKEN CLIENTS`.

Each line of standard input is answered with a line of JSON:

* `size`: how many clients are connected
* `forget`: the same; what was counted until now is forgotten
* `report`: `attempts`, the times at which clients began to connect; `arrivals`, those at which they were connected, both by a
  clock that all processes share; `counted`, the attempts by the clients' own counters; `wrong`, what else happened
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import resource
import sys
import time

from nexus_client import Nexus, State

AT_ONCE = 20  # clients that begin in a row
PAUSE = 0.05  # s after these


class Crowd:
    def __init__(self, url: str, token: str, size: int) -> None:
        self.attempts: list[float] = []
        self.arrivals: list[float] = []
        self.wrong: list[str] = []
        self.here = 0
        self.clients = [Nexus(url, token=token) for _ in range(size)]
        self._lives: list[asyncio.Task[None]] = []
        self._before = 0
        for client in self.clients:
            self._watch(client)

    async def run(self) -> None:
        orders = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        begin = asyncio.create_task(self._begin())
        while line := await orders.readline():
            print(json.dumps(self._answer(line.decode().strip())), flush=True)
        begin.cancel()

    async def _begin(self) -> None:
        for number, client in enumerate(self.clients, 1):
            self._lives.append(asyncio.create_task(client.run()))
            if number % AT_ONCE == 0:
                await asyncio.sleep(PAUSE)

    def _watch(self, client: Nexus) -> None:
        was = [""]

        def changed(state: State) -> None:
            if was[0] == "connected":
                self.here -= 1
            was[0] = state.state
            if state.state == "connecting":
                self.attempts.append(time.monotonic())
            elif state.state == "connected":
                self.arrivals.append(time.monotonic())
                self.here += 1
            elif state.state == "closed":
                self.wrong.append(repr(state.error))

        client.on_state(changed)

    def _answer(self, order: str) -> object:
        counted = sum(client.stats.attempts for client in self.clients)
        if order == "report":
            return {
                "attempts": self.attempts,
                "arrivals": self.arrivals,
                "counted": counted - self._before,
                "wrong": self.wrong[:10],
            }
        if order == "forget":
            self.attempts, self.arrivals, self._before = [], [], counted
        return self.here


def main(url: str, token: str, size: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logging.disable()
    gc.disable()  # of thousands of clients it takes long, and attempts that wait for it come at once
    asyncio.run(Crowd(url, token, int(size)).run())


if __name__ == "__main__":
    main(*sys.argv[1:])
