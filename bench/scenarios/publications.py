"""Acknowledged publications: many publishers, and one subscriber that checks that all events arrive."""

from __future__ import annotations

from typing import Any, Final

from bench.asker import askers, keep_asking
from bench.crowd import Crowd, need_descriptors
from bench.errors import Inexact
from bench.link import Link, decode
from bench.meter import Measure
from bench.target import Target, Time
from bench.wire import FIRST

TOPIC: Final = "bench.published"


def publications(target: Target, time: Time, connections: int, window: int) -> Measure:
    """Keep `window` publications open on each of `connections`; messages are acknowledgements."""
    need_descriptors(connections + 1)
    dialect = target.dialect
    data = [b'{"by":%d,"i":%%d,"cpu":45.2,"memory":62.1,"status":"running"}' % number for number in range(connections)]
    with Crowd(target, time) as crowd:
        (link,) = crowd.open([dialect.subscription(TOPIC)])
        asking = askers(crowd, [(dialect.publication(TOPIC, each), dialect.acknowledgements) for each in data])
        return keep_asking(target, time, crowd, asking, window, [_Subscriber(target, link, data)])


class _Subscriber:
    """Checks that each publisher's events arrive once and in order; `data` are their templates."""

    def __init__(self, target: Target, link: Link, data: list[bytes]) -> None:
        self.link = link
        self.heard = 0
        self._dialect = target.dialect
        self._data = data
        self._awaited = [FIRST] * len(data)

    def hear(self) -> None:
        for payload in self.link.frames(self.link.receive()):
            self._event(self._dialect.event(decode(payload), self.link.answer))

    def _event(self, data: Any) -> None:
        match data:
            case {"by": int(publisher)} if publisher < len(self._awaited):
                if data == decode(self._data[publisher] % self._awaited[publisher]):
                    self._awaited[publisher] += 1
                    self.heard += 1
                    return
        raise Inexact(f"the subscriber got {data!r:.200}, and waits for {self._awaited!r:.200}")
