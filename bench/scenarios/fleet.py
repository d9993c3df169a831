"""A fleet: agents that send telemetry and execute commands, clients that watch all of them or one, and callers."""

from __future__ import annotations

from array import array
from collections import deque
from time import perf_counter
from typing import Any, Final

from bench.crowd import Crowd, need_descriptors
from bench.errors import Inexact
from bench.link import Hello, Link, decode
from bench.meter import Measure, Meter
from bench.stream import Stream, check_event
from bench.target import Target, Time
from bench.wire import FIRST, Numbered

EVENT: Final = "telemetry.received"
COMMAND: Final = "bench.work"
STEP: Final = 0.001  # s by which a message may be sent late


def fleet(target: Target, time: Time, agents: int, rate: float, watchers: int, commands: float) -> Measure:
    """Send `rate` telemetry messages per second from each agent. `watchers` subscribe to all of them, and each agent has one
    subscriber of its own. Send `commands` per second to the agents in turn.

    Times count from when a message was due, so that a server that falls behind shows it. Messages are deliveries of events,
    acknowledgements and results of commands together.
    """
    need_descriptors(2 * agents + watchers + 1)
    with Crowd(target, time) as crowd:
        return _Fleet(target, crowd, agents, watchers).run(time, agents * rate, commands)


class _Fleet:
    def __init__(self, target: Target, crowd: Crowd, agents: int, watchers: int) -> None:
        self._target = target
        self._crowd = crowd
        names = [f"unit-{number:04}" for number in range(agents)]
        registration: list[Hello] = [
            [({"type": "register", "commands": [COMMAND], "agentId": name}, "registered")] for name in names
        ]
        self._agents = [_Agent(name, link) for name, link in zip(names, crowd.open(registration), strict=True)]
        self._by_name = {agent.name: agent for agent in self._agents}
        self._by_fd = {agent.link.fd: agent for agent in self._agents}
        own = crowd.open(
            [({"type": "subscribe", "events": [EVENT], "filters": {"agentId": name}}, "subscribed")] for name in names
        )
        self._owners = {link.fd: _Owner(agent, link) for agent, link in zip(self._agents, own, strict=True)}
        (self._caller,) = crowd.open([[]])
        everything = [({"type": "subscribe", "events": [EVENT]}, "subscribed")]
        self._stream = Stream(crowd.open([everything] * watchers), self._verify)
        self._order: list[tuple[str, int]] = []  # of all events, as received by the first watcher
        self._called: dict[int, tuple[_Agent, float]] = {}
        self.answers = self.acknowledged = self.owned = 0
        self.took: dict[str, array[float]] = {name: array("d") for name in ("event", "answer", "command")}

    @property
    def messages(self) -> int:
        return self._stream.received + self.owned + self.acknowledged + self.answers

    def run(self, time: Time, rate: float, commands: float) -> Measure:
        samples = calls = 0
        meter = Meter(self._target, time, self.took)
        start = perf_counter()
        while True:
            measure = meter.look(self.messages)
            now = perf_counter()
            if measure is None:
                while (due := start + samples / rate) <= now:
                    self._agents[samples % len(self._agents)].report(due)
                    samples += 1
                while commands and (due := start + calls / commands) <= now:
                    self._call(calls, due)
                    calls += 1
            elif self._finished(samples, calls):
                break
            for fd, _ in self._crowd.glance(STEP) if measure is None else self._crowd.poll():
                self._hear(fd)
        self._crowd.settle()
        return measure

    def _finished(self, samples: int, calls: int) -> bool:
        return (
            self.acknowledged == self.owned == samples
            and self.answers == calls
            and (not len(self._stream) or self._stream.lowest == samples)
        )

    def _call(self, number: int, due: float) -> None:
        agent = self._agents[number % len(self._agents)]
        self._called[number] = (agent, due)
        agent.tasks.append(number)
        parameters = {"n": number}
        self._caller.say({"type": "command", "command": COMMAND, "target": agent.name, "parameters": parameters, "id": number})

    def _hear(self, fd: int) -> None:
        if fd in self._stream:
            self._stream.take(fd)
            return
        link = self._crowd.links[fd]
        for payload in link.frames(link.receive()):
            message = decode(payload)
            if fd in self._owners:
                self.took["event"].append(self._owners[fd].event(message))
                self.owned += 1
            elif fd in self._by_fd:
                self._agent(self._by_fd[fd], message)
            else:
                self._answer(message)

    def _agent(self, agent: _Agent, message: dict[str, Any]) -> None:
        if message["type"] == "telemetry_ack":
            if not agent.due:
                raise Inexact(f"{agent.name} got an acknowledgement too many")
            self.took["answer"].append(perf_counter() - agent.due.popleft())
            self.acknowledged += 1
        elif message["type"] == "command":
            agent.execute(message)
        else:
            raise Inexact(f"{agent.name} got {message!r:.200}")

    def _answer(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        agent, due = self._called.pop(number, (None, 0.0)) if isinstance(number, int) else (None, 0.0)
        wanted = {"n": number, "by": agent.name} if agent else None
        if agent is None or message.get("type") != "command_result" or message["data"]["result"] != wanted:
            raise Inexact(f"the caller got {message!r:.300}")
        self.took["command"].append(perf_counter() - due)
        self.answers += 1

    def _verify(self, index: int, message: dict[str, Any]) -> None:
        data = check_event(message, EVENT)
        place = (data["agentId"], data["metrics"]["i"] - FIRST)
        if index < len(self._order):
            if place != self._order[index]:
                raise Inexact(f"two watchers have different events at {index}: {place} and {self._order[index]}")
            return
        agent = self._by_name[place[0]]
        if place[1] != agent.seen:
            raise Inexact(f"expected sample {agent.seen} of {agent.name}, got {place[1]}")
        agent.seen += 1
        self._order.append(place)


class _Agent:
    def __init__(self, name: str, link: Link) -> None:
        self.name = name
        self.link = link
        self.seen = 0  # samples received by the watchers of all agents
        self.due: deque[float] = deque()  # times of unacknowledged samples
        self.known: deque[float] = deque()  # times of samples that its own watcher has not received
        self.tasks: list[int] = []  # commands that it has not received yet
        self._sent = 0
        metrics = b'{"i":%d,"cpu":45.2,"memory":62.1,"status":"running"}'
        self._message = Numbered(b'{"type":"telemetry","agentId":"%b","metrics":%b}' % (name.encode(), metrics))

    def report(self, due: float) -> None:
        self.link.send(self._message.frame(self._sent))
        self._sent += 1
        self.due.append(due)
        self.known.append(due)

    def execute(self, message: dict[str, Any]) -> None:
        number = message["parameters"]["n"]
        if message["command"] != COMMAND or number not in self.tasks:
            raise Inexact(f"{self.name} got a command that is not for it, or twice: {message!r:.300}")
        self.tasks.remove(number)
        result = {"n": number, "by": self.name}
        self.link.say({"type": "command_result", "commandId": message["commandId"], "data": result})


class _Owner:
    """The subscriber of one agent."""

    def __init__(self, agent: _Agent, link: Link) -> None:
        self._agent = agent
        self.link = link
        self._next = 0

    def event(self, message: dict[str, Any]) -> float:
        data = check_event(message, EVENT)
        if data["agentId"] != self._agent.name or data["metrics"]["i"] != FIRST + self._next or not self._agent.known:
            raise Inexact(f"the watcher of {self._agent.name} expected sample {self._next}, got {data!r:.200}")
        self._next += 1
        return perf_counter() - self._agent.known.popleft()


