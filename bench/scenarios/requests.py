"""Requests and their answers: connections that each keep some requests under way."""

from __future__ import annotations

from array import array
from collections import deque
from time import perf_counter

from bench.crowd import Crowd, Hello, need_descriptors
from bench.errors import Inexact
from bench.link import Link
from bench.meter import Measure, Meter
from bench.replies import Replies
from bench.target import Target, Time
from bench.wire import Numbered

NOBODY: Hello = ()


def telemetry(target: Target, time: Time, connections: int, window: int) -> Measure:
    """Telemetry that is acknowledged once it is stored; messages are acknowledgements. In the end the store must hold
    each sample once."""
    metrics = b'{"i":%d,"cpu":45.2,"memory":62.1,"status":"running"}'
    agents = [_agent(number) for number in range(connections)]
    templates = [b'{"type":"telemetry","agentId":"%b","metrics":%b}' % (agent.encode(), metrics) for agent in agents]
    measure, sent = _run(target, time, templates, "telemetry_ack", window)
    if target.stored is not None:
        stored = target.stored()
        for agent, count in zip(agents, sent, strict=True):
            kept = stored.get(agent)
            if kept != (count, count):
                raise Inexact(f"{count} samples of {agent} were acknowledged; kept, and different ones: {kept}")
    return measure


def ping(target: Target, time: Time, connections: int, window: int) -> Measure:
    """The JSON ping; messages are pongs."""
    # The number is not part of the protocol, and ignored as any unknown member is.
    return _run(target, time, [b'{"type":"ping","n":%d}'] * connections, "pong", window)[0]


def _agent(number: int) -> str:
    return f"agent-{number:04}"


class _Asker:
    def __init__(self, link: Link, template: bytes, kind: str) -> None:
        self.sent = 0
        self.link = link
        self._message = Numbered(template)
        self._replies = Replies(link, kind)
        self._times: deque[float] = deque()

    def ask(self, count: int, now: float) -> None:
        frame, sent = self._message.frame, self.sent
        self.link.send(frame(sent) if count == 1 else b"".join([frame(sent + step) for step in range(count)]))
        self.sent += count
        self._times.extend([now] * count)

    def hear(self, took: array[float]) -> int:
        count = self._replies.count(self.link.receive())
        if count > len(self._times):
            raise Inexact("more answers than requests")
        now = perf_counter()
        took.extend([now - self._times.popleft() for _ in range(count)])
        return count


def _run(target: Target, time: Time, templates: list[bytes], kind: str, window: int) -> tuple[Measure, list[int]]:
    need_descriptors(len(templates))
    with Crowd(target, time) as crowd:
        links = crowd.open([NOBODY] * len(templates))
        askers = {link.fd: _Asker(link, template, kind) for link, template in zip(links, templates, strict=True)}
        took: array[float] = array("d")
        answered = 0
        meter = Meter(target, time, {"answer": took})
        now = perf_counter()
        for asker in askers.values():
            asker.ask(window, now)
        asked = window * len(askers)
        while (measure := meter.look(answered)) is None or answered < asked:
            for fd, _ in crowd.poll():
                asker = askers[fd]
                count = asker.hear(took)
                answered += count
                if measure is None and count:
                    asker.ask(count, perf_counter())
                    asked += count
                elif asker.link.unsent:
                    asker.link.flush()
        crowd.settle()
    return measure, [asker.sent for asker in askers.values()]
