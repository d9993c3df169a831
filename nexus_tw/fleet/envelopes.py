"""The form of what nodes send to each other: envelopes of letters, in MessagePack.

The first byte of an envelope distinguishes it from other messages on the same channel, which are JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

MARK: Final = b"\x01"


class Word(IntEnum):
    """What an envelope says beside its letters."""

    MAIL = 0
    AGAIN = 1  # some letters were missed: send again what follows `received`
    FAREWELL = 2  # the sender leaves
    BURIED = 3  # the node addressed was buried


class Kind(IntEnum):
    TOLD = 0
    ASKED = 1
    ANSWER = 2


class Letter(NamedTuple):
    """One message between two parts of the same name."""

    kind: Kind
    part: str
    number: int  # of the question; 0 for what is told
    body: bytes

    @property
    def size(self) -> int:
        """About the bytes that it takes, here and on the bus."""
        return len(self.body) + len(self.part) + 32


class Envelope(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Letters from one node to another, by their names in the fleet."""

    sender: str
    to: str
    word: Word
    received: int  # number of the last letter received from `to`
    first: int  # number of the first letter in it
    letters: Sequence[Letter] = ()


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Envelope).decode


def encode(envelope: Envelope) -> bytes:
    return MARK + _encode(envelope)


def decode(message: bytes) -> Envelope | None:
    """Return the envelope in a message that begins with `MARK`; None if there is none."""
    try:
        return _decode(memoryview(message)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
