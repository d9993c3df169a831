"""Metadata of events between Nexus nodes, and the events on the public channels to which it belongs.

Before events of one type, `about:TYPE` carries a line `POSITION N` or `POSITION N L,L,…`: the position of the first event (`-`
without a history), the number of events, and the lengths of their metadata, which follow the line. Redis executes no other
command in between, so the next messages are these events. Any other message is foreign, and ends the validity of the metadata.

`POSITION f` is followed by the data of an event of another program that was given this place in the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from nexus_tw.model.positions import Position

ADOPTED: Final = "f"


class Twin(NamedTuple):
    """Metadata and position of an event."""

    metadata: bytes
    position: Position | None


def lengths(said: Sequence[bytes]) -> bytes:
    """Return the metadata of events in a row, after their lengths; empty if no event has any."""
    if not any(said):
        return b""
    return b"%b\n%b" % (b",".join([b"%d" % len(one) for one in said]), b"".join(said))


def alone(metadata: bytes) -> bytes:
    """Return the message before a single event without a position."""
    return b"- 1 " + lengths((metadata,))


class Twins:
    """Matches events with their metadata, on one connection."""

    def __init__(self) -> None:
        self._channel = b""  # the channel of the next event with metadata
        self._left = 0
        self._epoch = ""
        self._offset = 0
        self._said: list[bytes] = []  # metadata of the remaining events, that of the next one last

    def about(self, channel: bytes, payload: bytes) -> tuple[Position, bytes] | None:
        """Process metadata of events that follow on this channel. Return an adopted event with its position, if the message
        is the notice of one."""
        self._left = 0
        head, _, rest = payload.partition(b"\n")
        try:
            position, count, *sizes = head.decode("ascii").split(" ")
            if count == ADOPTED:
                epoch, _, offset = position.rpartition(":")
                return Position(epoch, int(offset)), rest
            epoch, _, offset = position.rpartition(":")
            first, number = int(offset) if epoch else 0, int(count)
            said = _cut(rest, [int(size) for size in sizes[0].split(",")]) if sizes else []
        except ValueError:
            return None
        if said and len(said) != number:
            return None
        self._channel, self._left, self._epoch, self._offset, self._said = channel, number, epoch, first, said[::-1]
        return None

    def other(self) -> None:
        """Process a message that is no event."""
        self._left = 0

    def event(self, channel: bytes) -> Twin | None:
        """Process an event. Return its metadata and position, or None if another program published it."""
        if not self._left or channel != self._channel:
            self._left = 0
            return None
        self._left -= 1
        position = Position(self._epoch, self._offset) if self._epoch else None
        self._offset += 1
        return Twin(self._said.pop() if self._said else b"", position)


def _cut(row: bytes, sizes: Sequence[int]) -> list[bytes]:
    cut, place = [], 0
    for size in sizes:
        cut.append(row[place : place + size])
        place += size
    if place != len(row) or min(sizes) < 0:
        raise ValueError("lengths that do not fit")
    return cut
