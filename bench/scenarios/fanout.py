"""Fan-out: one publisher, whose events all subscribers get."""

from __future__ import annotations

from array import array
from time import perf_counter
from typing import Any, Final

from bench.crowd import Crowd, need_descriptors
from bench.errors import Inexact
from bench.link import Link
from bench.meter import Measure, Meter
from bench.stream import Stream
from bench.target import Target, Time
from bench.wire import FIRST, Numbered

EVENT: Final = "task.updated"


def fanout(target: Target, time: Time, subscribers: int, window: int, size: int) -> Measure:
    """Keep `window` events of `size` bytes (data) open: published, and not yet received by every subscriber.

    With a window of 1, events cannot be batched. Messages are deliveries; latency is the time until the last subscriber has
    received an event.
    """
    need_descriptors(subscribers + 1)
    with Crowd(target, time) as crowd:
        listeners = crowd.open([target.dialect.subscription(EVENT)] * subscribers)
        (publisher,) = crowd.open([[]])
        return _Run(target, crowd, listeners, publisher, size).run(time, window)


class _Run:
    def __init__(self, target: Target, crowd: Crowd, listeners: list[Link], publisher: Link, size: int) -> None:
        self._target = target
        self._crowd = crowd
        self._publisher = publisher
        self._dialect = target.dialect
        self._replies = target.dialect.acknowledgements(publisher)
        self._subscribed = listeners[0].answer
        self._stream = Stream(listeners, self._verify)
        data = b'{"taskId":"t-1","status":"running","i":%d,"pad":"'
        data += b"x" * (size - len(data) - 10) + b'"}'
        self._pad = "x" * data.count(b"x")
        self._message = Numbered(target.dialect.publication(EVENT, data))

    def _verify(self, index: int, message: Any) -> None:
        data = self._dialect.event(message, self._subscribed)
        if data != {"taskId": "t-1", "status": "running", "i": FIRST + index, "pad": self._pad}:
            raise Inexact(f"expected event {index}, got {data!r:.200}")

    def run(self, time: Time, window: int) -> Measure:
        stream, publisher, poll = self._stream, self._publisher, self._crowd.poll
        frame = self._message.frame
        began = array("d")  # when each event was published
        took = array("d")
        sent = published = done = 0
        meter = Meter(self._target, time, {"last": took})
        while True:
            measure = meter.look(stream.received)
            now = perf_counter()
            if measure is not None and sent == stream.lowest == published:
                break
            if measure is None and (room := window - (sent - stream.lowest)):
                publisher.send(b"".join([frame(sent + step) for step in range(room)]))
                sent += room
                began.extend([now] * room)
            elif publisher.unsent:
                publisher.flush()
            for fd, _ in poll():
                if fd in stream:
                    stream.take(fd)
                else:
                    published += self._replies.count(publisher.receive())
            now = perf_counter()
            while done < stream.lowest:
                took.append(now - began[done])
                done += 1
        self._crowd.settle()
        return measure
