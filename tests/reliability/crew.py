"""Several real nodes on a real Redis, agents that keep coming back, and callers that ask until they are told the end."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import treq
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import LoopingCall

from tests.client import clock
from tests.conftest import LONG
from tests.e2e.server import NexusServer, until
from tests.reliability.clients import later
from tests.reliability.duty import Execution, Judge, Lookout, Order
from tests.reliability.line import Line, Message, connected

TOKEN = "the-token-of-the-crew"
TICK = 0.02  # s between portions of the load
PATIENCE = 90.0  # s for anything, on a busy machine
HEARTBEAT = {"NEXUS_HEARTBEAT__INTERVAL": "2", "NEXUS_HEARTBEAT__TIMEOUT": "10"}
SILENCE = 6.0  # s without a heartbeat, after which a client leaves
EVENTS = ("task.updated", "agent.status")
RETURN = 1.0  # s within which a client comes back that was told nothing
AGAIN = 0.3  # s until what a server refused for a while is asked again
WORK = 0.3  # s that a command takes at most
# Answers after which the same command is given again: it was not taken, or nobody knows.
UNDECIDED = frozenset({"bus_unavailable", "shutting_down", "rate_limited", "internal"})
# Answers to commands that were not taken at all.
REFUSALS = frozenset({"agent_offline", "no_such_command"})


Way = int | IStreamClientEndpoint


class Visitor:
    """A connection that is made again, to any node, whenever it is lost."""

    def __init__(self, ways: Sequence[Way], chance: random.Random) -> None:
        """`ways` to the nodes, of which one is taken by chance: ports, or endpoints."""
        self._ways = ways
        self._chance = chance
        self._window = RETURN  # s within which it comes back
        self._line: Line | None = None
        self._stopped = False
        self._watching = LoopingCall(self._watch)
        self._watching.clock = clock
        self.here: Deferred[None] | None = None

    def start(self) -> Deferred[None]:
        """Connect; the Deferred fires at the first connection."""
        self.here = Deferred()
        Deferred.fromCoroutine(self._connect())
        self._watching.start(1, now=False)
        return self.here

    @property
    def there(self) -> bool:
        return self._line is not None and not self._line.over

    async def _connect(self) -> None:
        line = None
        while line is None and not self._stopped:
            try:
                line = await connected(self._chance.choice(self._ways), TOKEN, self._heard, self._lost, patience=5)
            except Exception:  # a node that is not there, or stands still
                await later(self._chance.uniform(0.05, 0.5))
        if line is not None:
            self._connected(line)

    def _connected(self, line: Line) -> None:
        if self._stopped:
            line.drop()
            return
        self._line = line
        self._window = RETURN
        self._came()
        here, self.here = self.here, None
        if here is not None:
            here.callback(None)

    def _watch(self) -> None:
        line = self._line
        if line is not None and not line.over and clock.seconds() - line.heard > SILENCE:
            line.drop()
            self._lost()

    def _lost(self) -> None:
        self._line = None
        self._left()
        if not self._stopped:
            clock.callLater(self._chance.uniform(0, self._window), lambda: Deferred.fromCoroutine(self._connect()))

    def _heard(self, message: Message) -> None:
        if message["type"] == "disconnect":
            self._window = message["delay"] / 1000
        else:
            self._arrived(message)

    def _send(self, message: Message) -> None:
        if self._line is not None:
            self._line.send(message)

    def stop(self) -> None:
        self._stopped = True
        if self._watching.running:
            self._watching.stop()
        if self._line is not None:
            self._line.drop()
        self._left()

    def _came(self) -> None:
        """It is connected."""

    def _left(self) -> None:
        """It is not connected any more."""

    def _arrived(self, message: Message) -> None:
        raise NotImplementedError


class Worker(Visitor):
    """An agent that executes commands, and gives up what it does when its connection ends."""

    def __init__(self, name: str, ways: Sequence[Way], chance: random.Random, judge: Judge) -> None:
        super().__init__(ways, chance)
        self.name = name
        self._judge = judge
        self._doing: dict[str, tuple[Execution, Any]] = {}

    def _came(self) -> None:
        self._send({"type": "register", "commands": ["work"], "agentId": self.name})

    def _left(self) -> None:
        for command_id in list(self._doing):
            self._give_up(command_id)

    def _arrived(self, message: Message) -> None:
        kind = message["type"]
        if kind == "command":
            command_id = message["commandId"]
            execution = self._judge.began(command_id, self.name, message["attempt"])
            timer = clock.callLater(self._chance.uniform(0, WORK), self._done, command_id)
            self._doing[command_id] = execution, timer
        elif kind == "command_cancel":
            if message["commandId"] in self._doing:
                self._give_up(message["commandId"])
        elif kind == "error" and message.get("code") not in UNDECIDED:
            self._judge.fault(f"{self.name} was answered {message}")

    def _done(self, command_id: str) -> None:
        execution, _ = self._doing.pop(command_id)
        execution.over = execution.answered = True
        self._send({"type": "command_result", "commandId": command_id, "status": "success", "data": {"by": self.name}})

    def _give_up(self, command_id: str) -> None:
        execution, timer = self._doing.pop(command_id)
        timer.cancel()
        execution.over = True


class Boss(Visitor):
    """Gives commands, and asks again, perhaps another node, until it is told the end of each."""

    def __init__(self, name: str, ways: Sequence[Way], chance: random.Random, judge: Judge) -> None:
        super().__init__(ways, chance)
        self.name = name
        self.waiting: dict[str, Message] = {}
        self._judge = judge
        self._number = 0

    def give(self, target: str) -> None:
        self._number += 1
        order = Order(f"{self.name}.{self._number}", target, self._chance.choice((0, 1, 2)))
        self._judge.given(order)
        message = {
            "type": "command",
            "command": "work",
            "commandId": order.id,
            "target": target,
            "retries": order.retries,
            "ttl": self._chance.choice((0, 20)),
            "timeout": 20,
        }
        self.waiting[order.id] = message
        self._send(message)

    def _came(self) -> None:
        for message in list(self.waiting.values()):
            self._send(message)

    def _arrived(self, message: Message) -> None:
        command_id = message.get("commandId", "")
        if message["type"] == "command_result":
            self._told(command_id, "success")
        elif message["type"] == "error":
            code = message.get("code")
            if not command_id or code is None:
                self._judge.fault(f"{self.name} was answered {message}")
            elif code in UNDECIDED:
                clock.callLater(AGAIN, self._ask_again, command_id)
            else:
                if code in REFUSALS:
                    self._judge.refused.add(command_id)
                self._told(command_id, code)

    def _told(self, command_id: str, outcome: str) -> None:
        self.waiting.pop(command_id, None)
        self._judge.told(command_id, outcome)

    def _ask_again(self, command_id: str) -> None:
        if command_id in self.waiting:
            self._send(self.waiting[command_id])


class Guard(Visitor):
    """Is told of commands and agents, and recovers what it missed."""

    def __init__(self, lookout: Lookout, ways: Sequence[Way], chance: random.Random) -> None:
        super().__init__(ways, chance)
        self.lookout = lookout
        self._positions: dict[str, str] = {}

    @property
    def standing(self) -> bool:
        """Whether it has subscribed, so that it misses nothing from now on."""
        return bool(self._positions)

    def _came(self) -> None:
        message: Message = {"type": "subscribe", "events": list(EVENTS)}
        if self._positions:
            message["since"] = dict(self._positions)
        self._send(message)

    def _arrived(self, message: Message) -> None:
        kind = message["type"]
        if kind == "event":
            self._positions[message["eventType"]] = message["position"]
            data = message["data"]
            if message["eventType"] == "task.updated":
                self.lookout.task(data["taskId"], data["status"])
            else:
                self.lookout.agent(data["agentId"], data["status"])
        elif kind == "subscribed":
            for event_type, recovered in (message.get("recovered") or {}).items():
                if not recovered:
                    self.lookout.gap(event_type)
            for event_type, position in (message.get("positions") or {}).items():
                if event_type not in self._positions or not (message.get("recovered") or {}).get(event_type):
                    self._positions[event_type] = position
        elif kind == "continuity":
            if message.get("position"):
                self._positions[message["eventType"]] = message["position"]
            if not message["recovered"]:
                self.lookout.gap(message["eventType"])
        elif kind == "error":
            clock.callLater(AGAIN, self._came)


class Crew:
    """Everything, and the checks."""

    def __init__(
        self, directory: Path, buses: Sequence[str], workers: int, rate: int, env: dict[str, str], seed: int
    ) -> None:
        """One node for each address of the bus; `rate` commands are given in a second."""
        chance = random.Random(seed)
        self.chance = chance
        self.nodes = [
            NexusServer(directory, "--bus", bus, name=f"node-{number}", env=HEARTBEAT | env, token=TOKEN)
            for number, bus in enumerate(buses, 1)
        ]
        self.ways: list[Way] = [node.port for node in self.nodes]
        self.judge = Judge()
        self.workers = [Worker(f"worker-{number}", self.ways, chance, self.judge) for number in range(workers)]
        self.bosses = [Boss(f"boss-{number}", self.ways, chance, self.judge) for number in range(4)]
        self.guards = [Guard(Lookout(f"guard {number}", self.judge), self.ways, chance) for number in range(2)]
        self.true_after: list[float] = []  # s until presence was true again
        self._rate = rate
        self._began = 0.0
        self._given = 0
        self._load = LoopingCall(self._portion)
        self._load.clock = clock

    @property
    def visitors(self) -> list[Visitor]:
        return [*self.guards, *self.workers, *self.bosses]

    async def start(self) -> None:
        for node in self.nodes:
            node.launch()
        await gatherResults([ensureDeferred(self.ready(node)) for node in self.nodes])
        for guard in self.guards:
            await guard.start().addTimeout(PATIENCE, clock)
        await until(lambda: all(guard.standing for guard in self.guards), PATIENCE, "for subscriptions")
        for visitor in [*self.workers, *self.bosses]:
            await visitor.start().addTimeout(PATIENCE, clock)
        await self.present()

    def load(self) -> None:
        self._began = time.monotonic()
        self._given = 0
        self._load.start(TICK)

    def _portion(self) -> None:
        passed = time.monotonic() - self._began
        due = min(int(passed * self._rate) - self._given, self._rate // 5 + 1)
        self._given = int(passed * self._rate)
        for _ in range(due):
            self.chance.choice(self.bosses).give(self.chance.choice(self.workers).name)

    async def under_load(self, orders: int) -> None:
        """Return after so many more commands have ended."""
        before = self.judge.ended
        await until(lambda: self.judge.ended >= before + orders, PATIENCE, f"for the end of commands:\n{self.logs()}")

    async def ready(self, node: NexusServer) -> None:
        """Wait until `/health/ready` of the node is 200."""
        end = clock.seconds() + PATIENCE
        while True:
            try:
                answer = await treq.get(f"{node.http}/health/ready", timeout=5, persistent=False)
                await treq.content(answer)
                if answer.code == 200:
                    return
            except Exception:
                assert node.running, node.output
            assert clock.seconds() < end, f"{node.http} is not ready:\n{self.logs()}"
            await later(TICK)

    async def present(self) -> None:
        """Return once every watcher has been told that every agent is online; note how long that took from now on."""
        began = time.monotonic()

        def absent() -> list[str]:
            return [
                f"{guard.lookout.name} {worker.name}"
                for guard in self.guards
                for worker in self.workers
                if guard.lookout.status.get(worker.name) != "online" and not guard.lookout.gaps
            ]

        def here() -> bool:
            return all(visitor.there for visitor in self.visitors) and not absent()

        await until(here, PATIENCE, f"for presence: {absent()[:10]}\n{self.judge.faults}")
        self.true_after.append(time.monotonic() - began)

    async def check(self) -> None:
        """Fail if a command has no end or two, was executed more often than allowed, or presence is not true."""
        self._load.stop()
        await until(lambda: not any(boss.waiting for boss in self.bosses), PATIENCE, self._unanswered())
        await self.present()

        def announced() -> bool:
            seen = [guard.lookout for guard in self.guards if not guard.lookout.gaps]
            wanted = [order for order in self.judge.orders.values() if order.id not in self.judge.refused]
            return all(order.finals(one.name) for one in seen for order in wanted)

        await until(announced, PATIENCE, f"for what is announced\n{self.judge.faults}")
        self.judge.check(guard.lookout for guard in self.guards)
        for visitor in self.visitors:
            visitor.stop()
        for node in self.nodes:
            assert await node.stop() in (0, -15), node.output
            assert "Traceback" not in node.output, node.output
        assert self.judge.faults == [], "\n".join(self.judge.faults)
        assert self.judge.ended == len(self.judge.orders) > 0
        self._report()

    def _report(self) -> None:
        """Write the figures where the environment says."""
        if path := os.environ.get("NEXUS_RELIABILITY"):
            orders = self.judge.orders.values()
            figures = {
                "commands": len(orders),
                "ends": Counter(order.outcome for order in orders),
                "further attempts": self.judge.repeated,
                "changes of presence": sum(guard.lookout.changes for guard in self.guards) // len(self.guards),
                "presence true after": [round(seconds, 2) for seconds in self.true_after],
            }
            test = os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0].rpartition("::")[2]
            with Path(path).open("a") as file:
                file.write(json.dumps({"test": test} | figures) + "\n")

    def _unanswered(self) -> str:
        waiting = [command_id for boss in self.bosses for command_id in boss.waiting]
        return f"for answers to {waiting[:10]}:\n{self.judge.faults}\n{self.logs()}"

    def logs(self) -> str:
        return "\n".join(node.output[-3000:] for node in self.nodes)

    def discard(self) -> None:
        if self._load.running:
            self._load.stop()
        for visitor in self.visitors:
            visitor.stop()
        for node in self.nodes:
            node.discard()


Make = Callable[..., Crew]


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Make]:
    """Makes a crew with three nodes, with the load of the long form or a light one."""
    made: list[Crew] = []

    def make(*buses: str, env: dict[str, str] | None = None, most: int = 1000, seed: int = 1) -> Crew:
        workers, rate = (min(most, 1000), 100) if LONG else (60, 40)
        made.append(Crew(tmp_path, buses if len(buses) > 1 else buses * 3, workers, rate, env or {}, seed))
        return made[-1]

    yield make
    for one in made:
        one.discard()
