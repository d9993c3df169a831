"""Positions in the history of an event type, and what reading that history returns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from nexus_tw.model.errors import invalid

MAX_EPOCH: Final = 64  # characters
MAX_OFFSET: Final = 2**53  # what JSON can tell exactly

_POSITION: Final = re.compile(rf"([!-9;-~]{{1,{MAX_EPOCH}}}):(0|[1-9][0-9]{{0,15}})", re.ASCII)


class Position(NamedTuple):
    """A place in the history of one event type: after the event with that offset; with 0, before the first event.

    Offsets count the events of the type from 1 on. Offsets of different epochs cannot be compared; the meaning of an epoch is
    up to the bus.
    """

    epoch: str
    offset: int

    @property
    def text(self) -> str:
        return f"{self.epoch}:{self.offset}"

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str, member: str) -> Position:
        """Return the position with this text. Raise `invalid_message`, naming the member, if it is none."""
        found = _POSITION.fullmatch(text)
        if found is None or int(found[2]) > MAX_OFFSET:
            raise invalid(member, "a position is EPOCH:OFFSET, as the server gave it")
        return cls(found[1], int(found[2]))


NOWHERE: Final = Position("-", 0)  # in a type without history


class Stored(NamedTuple):
    """An event in the history."""

    offset: int
    data: bytes
    millis: int  # when it was published, ms since the epoch
    metadata: bytes = b""  # as given to `IBus.publish`


class Missed(NamedTuple):
    """The events after a position, up to `top`: exactly these, oldest first, or none if any of them is lost."""

    recovered: bool
    top: Position
    events: Sequence[Stored] = ()
