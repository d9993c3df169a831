"""Well-behaved clients, in a process of their own: `python -m bench.harm.bystander ping|read PORT`.

`ping` pings, publishes, and sends commands to an agent of its own; `read` reads all events. Each prints `ready`, and for every
line on its input a line of JSON about the time since the previous one.
"""

from __future__ import annotations

import gc
import select
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from bench.errors import Inexact
from bench.harm.client import EVENTS
from bench.harm.roles import token
from bench.link import Address, Handshake, Hello, Link

TOPIC: Final = "bystander.pulse"
COMMAND: Final = "bystander.work"
AGENT: Final = "bystander"
PINGS: Final = 0.02  # s from one ping to the next
PULSES: Final = 0.1
COMMANDS: Final = 0.25
LATE: Final = 5.0  # s after which a missing answer counts as lost instead of slow


class Report(msgspec.Struct):
    """The measurements of a bystander since the last report."""

    times: list[float] = []  # s from each ping to its pong
    pulses: int = 0  # published, or for a reader received
    results: int = 0
    troubles: list[str] = []


def opened(port: int, hello: Hello = ()) -> Link:
    link = Link(Address(port, False), Handshake(f"{EVENTS}?token={token('bystander')}", "", ((None, "connected"),)))
    for event in link.open(hello):
        reads, writes = ([link.fd], []) if event == select.EPOLLIN else ([], [link.fd])
        if not any(select.select(reads, writes, [], LATE)):
            raise Inexact("no answer")
    return link


class Pinger:
    """Pings, publishes and sends commands at fixed intervals; a missing answer is trouble."""

    def __init__(self, port: int) -> None:
        self._ping = opened(port)
        self._publisher = opened(port)
        self._caller = opened(port)
        agent = {"type": "register", "agentId": AGENT, "commands": [COMMAND]}
        self._agent = opened(port, ((agent, "registered"),))
        self._hears: dict[int, tuple[Link, Callable[[dict[str, Any]], None]]] = {
            self._ping.fd: (self._ping, self._pong),
            self._publisher.fd: (self._publisher, self._published),
            self._caller.fd: (self._caller, self._result),
            self._agent.fd: (self._agent, self._work),
        }
        self._asked: float | None = None
        self._waiting = {"published": 0, "command_result": 0}
        self._report = Report()
        self._due = dict.fromkeys((self._do_ping, self._do_pulse, self._do_command), time.perf_counter())

    def fds(self) -> list[int]:
        return list(self._hears)

    def hear(self, fd: int) -> None:
        link, hear = self._hears[fd]
        try:
            for payload in link.frames(link.receive()):
                hear(msgspec.json.decode(payload))
        except Inexact as error:
            self._report.troubles.append(f"closed: {error}")
            del self._hears[fd]

    def act(self) -> float:
        """Send what is due. Return the seconds until the next action."""
        now = time.perf_counter()
        for do, due in self._due.items():
            if due <= now:
                self._due[do] = now + do()
        return max(0.0, min(self._due.values()) - time.perf_counter())

    def report(self) -> Report:
        if self._asked is not None and time.perf_counter() - self._asked > LATE:
            self._report.troubles.append("a ping was not answered")
        report, self._report = self._report, Report()
        return report

    def _say(self, link: Link, message: dict[str, Any]) -> bool:
        if link.fd not in self._hears:
            return False
        link.say(message)
        return True

    def _do_ping(self) -> float:
        if self._asked is None and self._say(self._ping, {"type": "ping"}):
            self._asked = time.perf_counter()
        return PINGS

    def _do_pulse(self) -> float:
        if self._say(self._publisher, {"type": "publish", "eventType": TOPIC, "data": {}, "id": 1}):
            self._report.pulses += 1
        return PULSES

    def _do_command(self) -> float:
        self._say(self._caller, {"type": "command", "command": COMMAND, "target": AGENT, "id": 1})
        return COMMANDS

    def _pong(self, message: dict[str, Any]) -> None:
        if self._asked is not None:
            self._report.times.append(time.perf_counter() - self._asked)
        self._asked = None

    def _published(self, message: dict[str, Any]) -> None:
        if message["type"] != "published":
            self._report.troubles.append(f"publish: {message.get('message')}")

    def _result(self, message: dict[str, Any]) -> None:
        if message["type"] == "command_result":
            self._report.results += 1
        elif message["type"] == "error":
            self._report.troubles.append(f"command: {message.get('message')}")

    def _work(self, message: dict[str, Any]) -> None:
        if message["type"] == "command":
            self._say(self._agent, {"type": "command_result", "commandId": message["commandId"], "data": {}})


class Reader:
    """Reads all events at once."""

    def __init__(self, port: int) -> None:
        self._link = opened(port)
        self._mark = b'"%b"' % TOPIC.encode()
        self._open = True
        self._report = Report()
        # Not as part of the opening: events may arrive with the answer.
        self._link.say({"type": "subscribe", "events": ["**"], "id": 1})

    def fds(self) -> list[int]:
        return [self._link.fd] if self._open else []

    def hear(self, fd: int) -> None:
        try:
            for payload in self._link.frames(self._link.receive()):
                if self._mark in payload[:64]:
                    self._report.pulses += 1
                elif payload.startswith((b'{"type":"continuity"', b'{"type":"disconnect"')):
                    self._report.troubles.append(f"reader: {payload.decode()}")
        except Inexact as error:
            self._report.troubles.append(f"reader closed: {error}")
            self._open = False

    def act(self) -> float:
        return 1.0

    def report(self) -> Report:
        report, self._report = self._report, Report()
        return report


def main() -> None:
    kinds: dict[str, Callable[[int], Pinger | Reader]] = {"ping": Pinger, "read": Reader}
    one = kinds[sys.argv[1]](int(sys.argv[2]))
    gc.freeze()
    _say(b"ready")
    while True:
        wait = one.act()
        for fd in select.select([0, *one.fds()], [], [], wait)[0]:
            if fd:
                one.hear(fd)
            elif sys.stdin.buffer.readline():
                _say(msgspec.json.encode(one.report()))
            else:
                return


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
