"""Connections that each keep some requests open, and witnesses that check the effects of these requests."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Collection, Sequence
from time import perf_counter
from typing import Protocol

from bench.crowd import Crowd
from bench.errors import Inexact
from bench.link import Link
from bench.meter import Measure, Meter
from bench.replies import Counter
from bench.target import Target, Time
from bench.wire import Numbered


class Witness(Protocol):
    """A connection that receives every request's effect. `heard` counts them; `hear` raises `Inexact` if one is not the
    next."""

    link: Link
    heard: int

    def hear(self) -> None: ...


class Asker:
    """One connection with its requests; `template` is that of a `Numbered`."""

    def __init__(self, link: Link, template: bytes, replies: Counter) -> None:
        self.sent = 0
        self.link = link
        self._message = Numbered(template)
        self._replies = replies
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


def askers(crowd: Crowd, requests: Sequence[tuple[bytes, Callable[[Link], Counter]]]) -> list[Asker]:
    """Open a connection for each of `requests`: a template, and a factory for the counter of its answers."""
    links = crowd.open([()] * len(requests))
    return [Asker(link, template, counter(link)) for link, (template, counter) in zip(links, requests, strict=True)]


def keep_asking(
    target: Target, time: Time, crowd: Crowd, asking: Collection[Asker], window: int, witnesses: Collection[Witness] = ()
) -> Measure:
    """Keep `window` requests open on each of `asking`; messages are answers. At the end, every request has been answered and
    seen by every witness."""
    by_fd = {asker.link.fd: asker for asker in asking}
    seeing = {witness.link.fd: witness for witness in witnesses}
    took: array[float] = array("d")
    answered = 0
    meter = Meter(target, time, {"answer": took})
    now = perf_counter()
    for asker in asking:
        asker.ask(window, now)
    asked = window * len(asking)
    while (measure := meter.look(answered)) is None or answered < asked or any(each.heard < asked for each in witnesses):
        for fd, _ in crowd.poll():
            if fd in seeing:
                seeing[fd].hear()
                continue
            asker = by_fd[fd]
            count = asker.hear(took)
            answered += count
            if measure is None and count:
                asker.ask(count, perf_counter())
                asked += count
            elif asker.link.unsent:
                asker.link.flush()
    crowd.settle()
    return measure
