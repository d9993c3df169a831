"""What the nodes of a fleet tell each other about registrations and invocations.

Each message is a list in MessagePack that begins with its number. Invocations are numbered by the node that drives them.
Payloads travel in the form in which they came. Times are spans in seconds: the clocks of nodes may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from nexus_tw.interfaces.peers import Caller, Reason
from nexus_tw.model.payloads import Options, Packed

# --- registrations: a batch of these, in their order


class Added(Struct, tag=1, array_like=True, gc=False):
    """A connection has registered these patterns, or did so earlier and the other node does not know it."""

    session: int
    identity: str  # whose connection it is
    streams: bool  # whether it accepts arguments in parts
    answers: bool  # whether it gives an answer when it is interrupted
    agent_id: str
    place: int  # among all callees of the fleet: by when it registered first
    order: int  # and last
    created: int  # of the registrations, in ms since the epoch
    invoke: str
    patterns: list[str]


class Dropped(Struct, tag=2, array_like=True, gc=False):
    """A connection has left these patterns; None: all."""

    session: int
    patterns: list[str] | None


# --- invocations: from the driver


class Start(Struct, tag=1, array_like=True, gc=False):
    """Carry this out by one callee. The answers are the messages further down."""

    number: int
    session: int
    agent_id: str
    pattern: str
    procedure: str
    payload: Packed
    caller: tuple[int, str, str]
    seconds: float  # until the deadline
    command_id: str  # "" for a plain call
    attempt: int
    retried: bool  # whether it is handed over again if it is lost
    disclosed: bool
    progressive: bool
    more: bool
    options: dict[str, str] | None


class Further(Struct, tag=2, array_like=True, gc=False):
    """A further part of the arguments, the last one unless `more`."""

    number: int
    payload: Packed
    more: bool


class Interrupt(Struct, tag=3, array_like=True, gc=False):
    """The result is not wanted any more."""

    number: int
    reason: Reason


class Release(Struct, tag=4, array_like=True, gc=False):
    """These invocations are over: their answers would be ignored, and need not be kept."""

    numbers: list[int]


class Adopt(Struct, tag=5, array_like=True, gc=False):
    """Report on this attempt of a command whose driver has left to the sender, under this number."""

    number: int
    command_id: str
    agent_id: str
    attempt: int


# --- invocations: to the driver. All but the first end the invocation.


class Progressed(Struct, tag=6, array_like=True, gc=False):
    number: int
    payload: Packed
    options: dict[str, str] | None


class Completed(Struct, tag=7, array_like=True, gc=False):
    number: int
    payload: Packed
    options: dict[str, str] | None


class Failed(Struct, tag=8, array_like=True, gc=False):
    """It failed; with a payload, which a WAMP callee gave, the URI is the callee's."""

    number: int
    code: str
    message: str
    uri: str
    payload: Packed | None = None
    options: dict[str, str] | None = None


class Lost(Struct, tag=9, array_like=True, gc=False):
    number: int


class Overran(Struct, tag=10, array_like=True, gc=False):
    number: int
    alone: bool


class Returned(Struct, tag=11, array_like=True, gc=False):
    """The callee never got it: it is gone or, if `busy`, has no room. Brings the arguments back."""

    number: int
    busy: bool
    payload: Packed


KEPT: Final = (Completed, Failed, Overran)
"""How a command may have ended that its node keeps: that nothing is known of it there says `Lost`."""

ToGuests = Start | Further | Interrupt | Release | Adopt
ToDriver = Progressed | Completed | Failed | Lost | Overran | Returned

_Batch = list[Added | Dropped]

encode: Final = msgspec.msgpack.Encoder().encode
batch: Final = msgspec.msgpack.Decoder(_Batch).decode
message: Final = msgspec.msgpack.Decoder(ToGuests | ToDriver).decode
session: Final = msgspec.msgpack.Decoder(int).decode
"""The questions whether the client of a session still answers, and what it has registered."""

Undecodable: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

T = TypeVar("T")


def in_pieces(entries: Sequence[T], size: int) -> list[Sequence[T]]:
    """Return the entries in pieces of at most `size`."""
    return [entries[place : place + size] for place in range(0, len(entries), size)]


def caller_of(start: Start) -> Caller:
    return Caller(*start.caller)


def stated(options: Options) -> dict[str, str] | None:
    """Return options as they are told."""
    return None if options is None else dict(options)
