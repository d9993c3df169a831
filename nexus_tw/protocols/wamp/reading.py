"""Readers: decode the messages of clients.

A payload stays encoded, and does not affect decoding: if the elements before it are valid, there is a message, even if the
bytes after them are malformed. `Payload.of_arguments` detects that later, so that only the request fails and the session
continues.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from nexus_tw.model import slices
from nexus_tw.model.serializers import CBOR, JSON, MSGPACK, Codec, Violation, json, msgpack
from nexus_tw.model.serializers.values import REFUSALS, reason
from nexus_tw.protocols.wamp import cbor_reading
from nexus_tw.protocols.wamp.heads import CLASSES, HEADS, NO_LIST, NO_TYPE, as_integer, checked, no_text, size, tidied, told
from nexus_tw.protocols.wamp.messages import AnyMessage, ClientMessage


class _Reader:
    """Reads a format for which msgspec decodes a whole message at once, leaving the parts of the payload encoded."""

    def __init__(
        self,
        codec: Codec,
        decoder: Callable[[Any], Callable[[bytes], Any]],
        change: Callable[[Any], Any],
        pieces: Callable[[bytes], list[bytes]],
    ) -> None:
        """`change` normalises the items of a head (see `heads.tidied`); `pieces` splits a list (see `slices`)."""
        self._codec = codec
        self._pieces = pieces
        self._message = decoder(AnyMessage)
        self._elements = decoder(list[msgspec.Raw])
        self._element = decoder(Any)
        self._change = change

    def message(self, data: bytes) -> ClientMessage:
        try:
            message = self._message(data)
        except REFUSALS as error:
            message = self._message_apart(data, error)
        return checked(message, self._codec)

    def _message_apart(self, data: bytes, error: Exception) -> ClientMessage:
        """Return the message by decoding it element by element, after decoding it at once failed with `error`."""
        try:
            elements = self._elements(data)
        except msgspec.ValidationError:
            raise Violation(NO_LIST) from None
        except REFUSALS:
            elements = self._cut(data, error)
        try:
            code = self._element(elements[0]) if elements else None
        except REFUSALS:
            raise Violation(reason(error)) from None
        if type(code) is not int:
            raise Violation(NO_LIST)
        if code not in CLASSES:
            raise Violation(NO_TYPE)
        kind = CLASSES[code]
        head = HEADS.get(kind, len(elements))
        try:
            return tidied([*map(self._element, elements[:head]), *elements[head:]], kind, self._change)
        except REFUSALS:
            raise told(error, kind) from None

    def _cut(self, data: bytes, error: Exception) -> list[msgspec.Raw]:
        """Return the encoded elements of a malformed list; if the end of one cannot be found, all remaining bytes are the last.
        Raise `Violation` with the reason of `error` if the bytes are no list."""
        try:
            found = self._pieces(data)
        except ValueError:
            found = [b""]
        if found and not found[-1]:
            raise Violation(reason(error)) from None
        return [*map(msgspec.Raw, found)]


class _MessagePackReader(_Reader):
    """Also refuses keys of large maps that are no text, before they are hashed."""

    def message(self, data: bytes) -> ClientMessage:
        if slices.has_large_maps(data):
            kind: type[ClientMessage] | None = None

            def heads(code: bytes) -> int:
                nonlocal kind
                kind = self._kind(code)
                return size(kind)

            try:
                slices.check_keys_of(data, heads)
            except slices.KeyIsNoText as error:
                raise no_text(kind, error.element) from None
        return super().message(data)

    def _kind(self, code: bytes) -> type[ClientMessage] | None:
        try:
            number = self._element(code)
        except REFUSALS:
            return None
        return CLASSES.get(number) if type(number) is int else None


READERS: Final[dict[str, Callable[[bytes], ClientMessage]]] = {
    JSON.name: _Reader(JSON, json.decoder, lambda item: item, slices.of_json).message,
    MSGPACK.name: _MessagePackReader(MSGPACK, msgpack.decoder, as_integer, slices.of_msgpack).message,
    CBOR.name: cbor_reading.message,
}
"""By serializer: each returns the message in the given bytes, or raises `Violation`.

Of the payload, only the first bytes of the list and the map have been checked. If it is malformed, it may be split wrongly:
`args` may contain all remaining bytes."""
