"""Reads messages in CBOR, element by element: only the content of a payload tells whether its bytes can be kept."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any, Final

import msgspec

from nexus_tw.model.serializers import CBOR, Violation
from nexus_tw.model.serializers.cbor import MORE, Tags, decoder, load, without_undefined
from nexus_tw.model.serializers.values import NO_TEXT, REFUSALS, reason
from nexus_tw.protocols.wamp.heads import CLASSES, HEADS, NO_LIST, NO_TYPE, as_integer, checked, no_text, size, tidied, told
from nexus_tw.protocols.wamp.messages import ClientMessage

_SHORT: Final = range(0x80, 0x98)  # first bytes of short lists: that of the empty list, plus the length
_SHORTS: Final = [bytes((first,)) for first in _SHORT]
_SIZES: Final = {CBOR.encode(kind.__struct_config__.tag): head for kind, head in HEADS.items()}  # by encoded type codes
# The start of a list, perhaps after the tag of self-described CBOR; the groups hold the number of elements (31: indefinite).
_START: Final = re.compile(rb"(?:\xd9\xd9\xf7)?(?:([\x80-\x97\x9f])|\x98(.)|\x99(..)|\x9a(.{4})|\x9b(.{8}))", re.DOTALL)


def message(data: bytes) -> ClientMessage:
    """Return the message in these bytes. Raise `Violation` if they are none."""
    head = _SIZES.get(data[1:2]) or _SIZES.get(data[1:3])
    elements = _sliced(data, head) if head and data[0] in _SHORT else _rewritten(data)
    kind = CLASSES.get(elements[0])
    if kind is None:
        raise Violation(NO_TYPE)
    try:
        found: ClientMessage = msgspec.convert(elements, kind)
    except REFUSALS as error:
        try:
            found = tidied(elements, kind, as_integer)
        except REFUSALS:
            raise told(error, kind) from None
    return checked(found, CBOR)


def _sliced(data: bytes, head: int) -> list[Any]:
    """Return the elements: `head` decoded ones, the others as their original bytes, re-encoded if a tag has to be removed."""
    count = data[0] - _SHORT.start
    tags = Tags()
    # The head alone, as a list of its own: one item to decode.
    stream = BytesIO(_SHORTS[min(head, count)] + data[1:])
    decode = decoder(stream, semantic_decoders=tags).decode
    try:
        elements: list[Any] = decode()
        if b"\xf7" in data:
            elements = without_undefined(elements)
        end = stream.tell()
    except REFUSALS as error:
        return _cut(data, reason(error))
    for _ in range(head, count):
        begin = end
        try:
            part, end = decode(), stream.tell()
        except REFUSALS as error:
            if begin == len(data):
                raise Violation(reason(error)) from None
            elements.append(msgspec.Raw(data[begin:]))
            return elements
        elements.append(msgspec.Raw(CBOR.encode(part) if tags.removed else data[begin:end]))
    if end != len(data):
        raise Violation(MORE)
    return elements


def _rewritten(data: bytes) -> list[Any]:
    """Return the elements of a message with any other start: without a payload, or with numbers not in the shortest form."""
    try:
        items = load(data)
    except Violation as violation:
        return _cut(data, str(violation))
    if type(items) is not list or not items or type(items[0]) is not int:
        raise Violation(NO_LIST)
    kind = CLASSES.get(items[0])
    if kind is not None:
        head = HEADS.get(kind, len(items))
        items[head:] = [msgspec.Raw(CBOR.encode(part)) for part in items[head:]]
    return items


def _cut(data: bytes, why: str) -> list[Any]:
    """Return the elements before a malformed payload, and as one more element all bytes after them. Raise `Violation` with
    the reason `why` if the payload is not the malformed part."""
    start = _START.match(data)
    if start is None:
        raise Violation(why)
    stream = BytesIO(data[start.end() :])
    decode = decoder(stream, semantic_decoders=Tags()).decode
    elements: list[Any] = []
    rest = b""
    try:
        code = decode()
        kind = CLASSES.get(code) if type(code) is int else None
        elements.append(code)
        elements.extend(decode() for _ in range(1, size(kind)))
        if kind in HEADS:
            rest = data[start.end() + stream.tell() :]
            for _ in range(size(kind), _count(start)):
                decode()
    except REFUSALS as error:
        if rest:
            return [*without_undefined(elements), msgspec.Raw(rest)]
        if reason(error) == NO_TEXT and elements:
            raise no_text(kind, len(elements)) from None
    raise Violation(why)


def _count(start: re.Match[bytes]) -> int:
    count = int.from_bytes(start[start.lastindex or 1])
    return count & 0x1F if start.lastindex == 1 else count
