"""Agents that answer at once, and callers that keep some commands open."""

from __future__ import annotations

import select
from array import array
from collections.abc import Sequence
from contextlib import AbstractContextManager
from time import monotonic, perf_counter
from types import TracebackType
from typing import Final

import msgspec

from bench.dialects import JSON
from bench.errors import Inexact
from bench.link import Address, Hello, Link
from bench.wire import FIN, TEXT, masked

PATIENCE: Final = 30.0  # s without any message after which something is lost


class Message(msgspec.Struct, rename="camel", gc=False):
    """What matters here of a message of the server."""

    type: str
    id: int = 0
    command_id: str = ""
    message: str = ""


_decode: Final = msgspec.json.Decoder(Message).decode


class Agent:
    """Executes `bench.echo` by answering at once."""

    def __init__(self, link: Link) -> None:
        self.link = link

    def hear(self) -> int:
        answers = []
        for text in self.link.frames(self.link.receive()):
            message = _decode(text)
            if message.type != "command":
                raise Inexact(f"an agent got {text[:200]!r}")
            answer = b'{"type":"command_result","commandId":"%b","status":"success","data":1}' % message.command_id.encode()
            answers.append(masked(FIN | TEXT, answer))
        if answers:
            self.link.send(b"".join(answers))
        return 0


class Caller:
    """Keeps `window` commands to one agent open; `took` gets the seconds of each."""

    def __init__(self, link: Link, name: str, agent: str, took: array[float]) -> None:
        self.link = link
        self.took = took
        self._name = name.encode()
        self._agent = agent.encode()
        self._number = 0
        self._open: dict[int, float] = {}

    @property
    def open(self) -> int:
        return len(self._open)

    def ask(self, count: int) -> None:
        # With a ttl, as the other node may hear of an agent a moment after the agent was told that it is registered.
        frames = []
        for _ in range(count):
            self._number += 1
            text = b'{"type":"command","command":"bench.echo","id":%d,"commandId":"%b.%d","target":"%b","ttl":5}' % (
                self._number,
                self._name,
                self._number,
                self._agent,
            )
            frames.append(masked(FIN | TEXT, text))
            self._open[self._number] = perf_counter()
        self.link.send(b"".join(frames))

    def hear(self) -> int:
        """Return the number of commands that have ended."""
        found = self.link.frames(self.link.receive())
        now = perf_counter()
        for text in found:
            message = _decode(text)
            if message.type != "command_result" or message.id not in self._open:
                raise Inexact(f"a caller got {text[:200]!r}")
            self.took.append(now - self._open.pop(message.id))
        return len(found)


class Stage(AbstractContextManager["Stage"]):
    """The connections of one run, and the poll over them."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._links: dict[int, Link] = {}
        self._of: dict[int, Agent | Caller] = {}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for link in self._links.values():
            link.close()
        self._poll.close()

    def agent(self, address: Address, name: str) -> Agent:
        hello: Hello = (({"type": "register", "commands": ["bench.echo"], "agentId": name}, "registered"),)
        agent = Agent(self._open(address, hello))
        self._of[agent.link.fd] = agent
        return agent

    def caller(self, address: Address, name: str, agent: str, took: array[float]) -> Caller:
        caller = Caller(self._open(address, ()), name, agent, took)
        self._of[caller.link.fd] = caller
        return caller

    def _open(self, address: Address, hello: Hello) -> Link:
        link = Link(address, JSON.handshake)
        for wanted in link.open(hello):
            with select.epoll() as poll:
                poll.register(link.fd, wanted)
                if not poll.poll(PATIENCE):
                    raise Inexact("a connection does not open")
        self._links[link.fd] = link
        self._poll.register(link.fd, select.EPOLLIN)
        return link

    def run(self, callers: Sequence[Caller], window: int, seconds: float) -> int:
        """Have each caller keep `window` commands open for that long. Return how many ended; wait for the last of them."""
        end = monotonic() + seconds
        ended = 0
        for caller in callers:
            caller.ask(window)
        while any(caller.open for caller in callers):
            ready = self._poll.poll(PATIENCE)
            if not ready:
                raise Inexact(f"nothing came for {PATIENCE:g} s: a command is lost")
            going = monotonic() < end
            for fd, _ in ready:
                one = self._of[fd]
                done = one.hear()
                if going:
                    ended += done
                    if done and isinstance(one, Caller):
                        one.ask(done)
        return ended
