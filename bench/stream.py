"""The stream that many subscribers must receive, stored once: parsed for the first, compared by bytes for the others.

A server normally sends the same frame to all, so one comparison in C replaces parsing every frame of every subscriber. If the
bytes differ, because of a heartbeat or because the server encodes for each client, that subscriber's frames are parsed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from bench import wire
from bench.errors import Inexact
from bench.link import Link, decode

KEEP: Final = 4 * 1024 * 1024  # bytes that all subscribers have received, before they are dropped

Verify = Callable[[int, Any], None]


class Stream:
    """The common stream. `verify(index, message)` raises `Inexact` if a message is not the expected one."""

    def __init__(self, links: Sequence[Link], verify: Verify) -> None:
        self.lowest = 0  # number of events that every subscriber has received
        self.received = 0  # by all subscribers together
        self._verify = verify
        self._links = {link.fd: link for link in links}
        self._bytes = bytearray()
        self._base = 0  # where `_bytes` begins in the whole stream
        self._ends = [0]  # of frame number `_first + n`
        self._first = -1
        self._place = dict.fromkeys(self._links, 0)
        self._index = dict.fromkeys(self._links, 0)
        self._at = Counter({0: len(links)})  # number of subscribers by number of events received

    def __contains__(self, fd: int) -> bool:
        return fd in self._index

    def __len__(self) -> int:
        """Return the number of subscribers."""
        return len(self._index)

    def take(self, fd: int) -> None:
        """Process the bytes received by one subscriber."""
        link = self._links[fd]
        data = link.receive()
        place = self._place[fd]
        if not link.rest and self._bytes.startswith(data, place - self._base):
            place += len(data)
            ends = self._ends
            # Nearly always at the end of the newest frame.
            index = self._first + (len(ends) if ends[-1] == place else bisect_right(ends, place))
            self._place[fd] = place
        else:
            index = self._apart(fd, link, place, data)
        before = self._index[fd]
        if index != before:
            self._index[fd] = index
            self.received += index - before
            at = self._at
            at[index] += 1
            at[before] -= 1
            if before == self.lowest and not at[before]:
                while not at[self.lowest]:
                    del at[self.lowest]
                    self.lowest += 1
                if self._ends[self.lowest - self._first - 1] - self._base > KEEP:
                    self._forget()

    def _apart(self, fd: int, link: Link, place: int, data: bytes) -> int:
        index = self._index[fd]
        begin = self._end(index)
        link.rest = bytes(self._bytes[begin - self._base : place - self._base]) + link.rest
        for payload in link.frames(data):
            self._check(index, payload)
            index += 1
        place = self._end(index)
        if self._bytes.startswith(link.rest, place - self._base):
            place += len(link.rest)
            link.rest = b""
        self._place[fd] = place
        return index

    def _check(self, index: int, payload: bytes) -> None:
        known = self._first + len(self._ends)
        if index < known:
            begin, end = self._end(index), self._end(index + 1)
            if self._bytes[begin - self._base : end - self._base] == wire.framed(payload):
                return
        self._verify(index, decode(payload))
        if index == known:
            frame = wire.framed(payload)
            self._bytes += frame
            self._ends.append(self._ends[-1] + len(frame))

    def _end(self, index: int) -> int:
        """Return the end of the first `index` frames in the whole stream."""
        return self._ends[index - self._first - 1]

    def _forget(self) -> None:
        done = self.lowest - self._first - 1
        del self._ends[:done]
        self._first += done
        del self._bytes[: self._ends[0] - self._base]
        self._base = self._ends[0]


def check_event(message: dict[str, Any], event_type: str) -> Any:
    """Return the data of an event message. Raise `Inexact` for any other message."""
    if message.get("type") != "event" or message.get("eventType") != event_type:
        raise Inexact(f"expected an event {event_type}, got {message!r:.200}")
    return message["data"]
