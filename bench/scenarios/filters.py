"""Filters: many subscribers of one type, each with its own filter, and events that match exactly one."""

from __future__ import annotations

from array import array
from collections import deque
from time import perf_counter
from typing import Final

from bench.crowd import Crowd, need_descriptors
from bench.errors import Inexact
from bench.link import decode
from bench.meter import Measure, Meter
from bench.replies import Replies
from bench.stream import check_event
from bench.target import Target, Time
from bench.wire import FIRST, masked

EVENT: Final = "bench.filtered"
TEXT: Final = 0x81


def filters(target: Target, time: Time, different: int, window: int) -> Measure:
    """`different` subscribers, each with `{"agentId": its own}`; the events match them in turn. `window` events are open.

    Messages are events, each with one delivery.
    """
    need_descriptors(different + 1)
    with Crowd(target, time) as crowd:
        links = crowd.open(
            [({"type": "subscribe", "events": [EVENT], "filters": {"agentId": f"agent-{number}"}}, "subscribed")]
            for number in range(different)
        )
        (publisher,) = crowd.open([[]])
        replies = Replies(publisher, "published")
        numbers = {link.fd: number for number, link in enumerate(links)}
        awaited = list(range(different))  # the next event of each subscriber
        began: deque[float] = deque()
        took: array[float] = array("d")
        sent = arrived = published = 0
        meter = Meter(target, time, {"event": took})
        while True:
            measure = meter.look(arrived)
            if measure is not None and sent == arrived == published:
                break
            if measure is None and (room := window - (sent - arrived)):
                publisher.send(b"".join([_publish(sent + step, different) for step in range(room)]))
                sent += room
                began.extend([perf_counter()] * room)
            for fd, _ in crowd.poll():
                if fd == publisher.fd:
                    published += replies.count(publisher.receive())
                    continue
                number, link = numbers[fd], crowd.links[fd]
                for payload in link.frames(link.receive()):
                    data = check_event(decode(payload), EVENT)
                    if data != {"agentId": f"agent-{number}", "i": FIRST + awaited[number]} or awaited[number] >= sent:
                        raise Inexact(f"subscriber {number} expected event {awaited[number]}, got {data!r:.200}")
                    awaited[number] += different
                    arrived += 1
                    # Events arrive in about the order of publication, so these are their times.
                    took.append(perf_counter() - began.popleft())
        crowd.settle()
        return measure


def _publish(index: int, different: int) -> bytes:
    data = b'{"agentId":"agent-%d","i":%d}' % (index % different, FIRST + index)
    return masked(TEXT, b'{"type":"publish","eventType":"%b","data":%b}' % (EVENT.encode(), data))
