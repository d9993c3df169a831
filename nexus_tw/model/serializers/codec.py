"""The interface of serializers, and the exception for invalid input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

DEPTH: Final = 256  # of nesting, unless the caller asks for less


class Violation(Exception):
    """A client sent no valid value or message; the text names the member and the reason, without quoting the input."""


class Codec:
    """One of WAMP's serializers. Its input comes from clients: every error in it raises `Violation`."""

    name: ClassVar[str]  # as in the subprotocol `wamp.2.NAME`
    number: ClassVar[int]  # as in RawSocket's handshake
    binary: ClassVar[bool]  # whether its WebSocket messages are binary ones
    lists: ClassVar[frozenset[int]]  # first bytes
    maps: ClassVar[frozenset[int]]

    def value(self, data: bytes, depth: int = DEPTH) -> Any:
        """Return the decoded value, made of the types that the package lists only, so that each serializer can encode it."""
        raise NotImplementedError

    def part(self, data: bytes, depth: int = DEPTH) -> tuple[Any, bytes]:
        """Return the value of a part of a payload, and its bytes for recipients with this serializer."""
        return self.value(data, depth), data

    def encode(self, value: Any) -> bytes:
        """Return the bytes of a value; tuples are encoded as lists. Raise TypeError if it contains any other type, which is a
        bug in the caller."""
        raise NotImplementedError

    def join(self, header: Sequence[Any], args: bytes | None = None, kwargs: bytes | None = None) -> bytes:
        """Return a whole message: the elements of `header`, then the parts of a payload, encoded by this serializer."""
        raise NotImplementedError


def join_binary(head: bytes, empty: bytes, args: bytes | None, kwargs: bytes | None) -> bytes:
    """Return the encoded list `head` with the parts of a payload as further elements; `empty` is a list without any."""
    # In MessagePack and CBOR a short list begins with one byte: that of the empty list, plus the length.
    if kwargs is not None:
        return b"%c%b%b%b" % (head[0] + 2, head[1:], empty if args is None else args, kwargs)
    return head if args is None else b"%c%b%b" % (head[0] + 1, head[1:], args)
