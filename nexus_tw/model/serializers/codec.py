"""What every serializer does, and how it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

DEPTH: Final = 256  # of nesting, where nobody asks for less


class Violation(Exception):
    """What a client sent is no value or no message; the text names the member and the reason, and repeats nothing of it."""


class Codec:
    """One of WAMP's serializers. What it decodes comes from clients: all that is wrong with it is a `Violation`."""

    name: ClassVar[str]  # as in the subprotocol `wamp.2.NAME`
    number: ClassVar[int]  # as in RawSocket's handshake
    binary: ClassVar[bool]  # whether its WebSocket messages are binary ones
    lists: ClassVar[frozenset[int]]  # first bytes
    maps: ClassVar[frozenset[int]]

    def value(self, data: bytes, depth: int = DEPTH) -> Any:
        """Return the value, of nothing but what values are made of (see the package), so that each serializer can encode it."""
        raise NotImplementedError

    def part(self, data: bytes, depth: int = DEPTH) -> tuple[Any, bytes]:
        """Return the value of a part of a payload, and the bytes in which it goes on to clients of this serializer."""
        return self.value(data, depth), data

    def encode(self, value: Any) -> bytes:
        """Return the bytes of a value; takes tuples for lists too. Raise TypeError if there is anything else in it, which is a
        mistake of the caller's."""
        raise NotImplementedError

    def join(self, header: Sequence[Any], args: bytes | None = None, kwargs: bytes | None = None) -> bytes:
        """Return a whole message: these elements, then the parts of a payload, which this serializer has encoded."""
        raise NotImplementedError


def join_binary(head: bytes, empty: bytes, args: bytes | None, kwargs: bytes | None) -> bytes:
    """Return the encoded list `head` with the parts of a payload as further elements; `empty` is a list without any."""
    # A short list begins with one byte, in MessagePack and CBOR: that of an empty one, and its length.
    if kwargs is not None:
        return b"%c%b%b%b" % (head[0] + 2, head[1:], empty if args is None else args, kwargs)
    return head if args is None else b"%c%b%b" % (head[0] + 1, head[1:], args)
