"""A reconnect storm: many subscribers come back at once, and each has missed the same events."""

from __future__ import annotations

import re
from array import array
from dataclasses import replace
from time import perf_counter
from typing import Any, Final
from urllib.request import Request, urlopen

from bench.crowd import Crowd, need_descriptors
from bench.dialects import TOKEN
from bench.errors import Inexact, Unable
from bench.link import TLS, Link, decode
from bench.meter import Measure, Meter
from bench.target import Target, Time
from bench.wire import FIRST, Numbered, frame_end

EVENT: Final = "task.updated"
PIECE: Final = 50  # events that are published together
_READS: Final = re.compile(r"^nexus_history_reads_total (\S+)$", re.MULTILINE)


def storm(target: Target, time: Time, subscribers: int, missed: int) -> Measure:
    """Connect `subscribers` anew, 64 at a time; then all ask for the `missed` events of 100 bytes since the same position.

    Messages are deliveries. Latency counts from the first connection on: until a subscriber has everything, and, as `all`,
    until the last one has. `reads` is how often a history was read.
    """
    need_descriptors(subscribers + 2)
    with Crowd(target, time) as crowd:
        since, expected = _published(target, crowd, missed)
        began = _reads(target)
        took, last = array("d"), array("d")
        # Measures from now until all have everything.
        meter = Meter(target, Time(0, 0), {"caught_up": took, "all": last})
        meter.look(0)
        start = perf_counter()
        waiting = {link.fd: Returned(link, expected) for link in crowd.open([[]] * subscribers)}
        for returned in waiting.values():
            returned.link.say({"type": "subscribe", "events": [EVENT], "since": {EVENT: since}})
        while waiting:
            for fd, _ in crowd.poll():
                if fd not in waiting:
                    raise Inexact("a message that nobody asked for")
                if waiting[fd].take():
                    took.append(perf_counter() - start)
                    del waiting[fd]
        last.append(perf_counter() - start)
        measure = meter.look(subscribers * missed)
        assert measure is not None
        crowd.settle()
        return replace(measure, figures={**measure.figures, "reads": _reads(target) - began})


def _published(target: Target, crowd: Crowd, missed: int) -> tuple[str, bytes]:
    """Publish the events to be missed. Return the position before them, and the bytes of their frames, as a subscriber got
    them who was there."""
    (witness,) = crowd.open([target.dialect.subscription(EVENT)])
    if EVENT not in witness.answer.get("positions", ()):
        raise Unable("this server keeps no history")
    (publisher,) = crowd.open([[]])
    replies = target.dialect.acknowledgements(publisher)
    data = b'{"taskId":"t-1","status":"running","i":%d,"pad":"' + b"x" * 39 + b'"}'
    frame = Numbered(target.dialect.publication(EVENT, data)).frame
    got, published, sent, seen = bytearray(), 0, 0, 0
    while published < missed or seen < missed:
        if published == sent == seen and sent < missed:
            piece = range(sent, min(sent + PIECE, missed))
            publisher.send(b"".join(map(frame, piece)))
            sent = piece.stop
        for fd, _ in crowd.poll():
            if fd == publisher.fd:
                published += replies.count(publisher.receive())
            else:
                part = witness.receive()
                got += part
                for payload in witness.frames(part):
                    _check(target, decode(payload), seen, witness.answer)
                    seen += 1
    return witness.answer["positions"][EVENT], bytes(got)


def _check(target: Target, message: Any, index: int, subscribed: Any) -> None:
    data = target.dialect.event(message, subscribed)
    if data != {"taskId": "t-1", "status": "running", "i": FIRST + index, "pad": "x" * 39}:
        raise Inexact(f"expected event {index}, got {data!r:.200}")


def _reads(target: Target) -> float:
    scheme = "https" if target.address.tls else "http"
    request = Request(  # noqa: S310 - an address of our own
        f"{scheme}://127.0.0.1:{target.address.port}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urlopen(request, timeout=10, context=TLS if target.address.tls else None) as answer:  # noqa: S310
        found = _READS.search(answer.read().decode())
    if found is None:
        raise Inexact("there is no nexus_history_reads_total")
    return float(found[1])


class Returned:
    """A subscriber that has come back: the answer to its subscription, then exactly what it missed."""

    def __init__(self, link: Link, expected: bytes) -> None:
        self.link = link
        self._expected = expected
        self._answer = b""
        self._place = -1  # in what is expected; not begun yet

    def take(self) -> bool:
        """Process what has come. Return whether that was all."""
        data = self.link.receive()
        if self._place < 0:
            self._answer += data
            end = frame_end(self._answer, 0)
            if end is None or end > len(self._answer):
                return False
            (answer,) = map(decode, self.link.frames(self._answer[:end]))
            if answer["type"] != "subscribed" or answer.get("recovered") != {EVENT: True}:
                raise Inexact(f"not recovered: {answer!r:.200}")
            data, self._place = self._answer[end:], 0
        if not self._expected.startswith(data, self._place):
            raise Inexact(f"got {data[:200]!r} in place of {self._expected[self._place : self._place + 200]!r}")
        self._place += len(data)
        return self._place == len(self._expected)
