"""The head of a message, that is, all elements before its payload: its length, its lenient decoding, and its errors.

In options, null and undefined mean the same as absence. JavaScript encodes larger integers as floats in MessagePack and CBOR,
so a float without a fraction is accepted wherever a message needs an integer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from nexus_tw.model.serializers import DEPTH, Codec, Violation
from nexus_tw.model.serializers.values import NO_TEXT, check, reason, replace
from nexus_tw.protocols.wamp.messages import (
    TRANSPARENT,
    Abort,
    AnyMessage,
    Authenticate,
    Carrier,
    ClientMessage,
    Error,
    Goodbye,
    Hello,
    Passthru,
)

CLASSES: Final[dict[int, type[ClientMessage]]] = {cast(int, each.__struct_config__.tag): each for each in AnyMessage.__args__}

# The number of elements before the payload.
HEADS: Final[dict[type[ClientMessage], int]] = {
    each: 1 + len(each.__struct_fields__) - len(Carrier.__struct_fields__)
    for each in CLASSES.values()
    if issubclass(each, Carrier)
}

NO_LIST: Final = "a message is a list that begins with its type code"
NO_TYPE: Final = "the type code is none of a message that clients send"

_OPTIONS: Final = 2  # index of the options, in every message that has them

# Members with arbitrary content; options are typed.
_FREE: Final[dict[type, str]] = {
    Hello: "details",
    Abort: "details",
    Authenticate: "extra",
    Goodbye: "details",
    Error: "details",
}

_PLACE: Final = re.compile(r"(?P<why>.*) - at (?P<key>`key` in )?`\$\[(?P<index>\d+)\](?P<rest>.*)`\Z", re.DOTALL)


def size(kind: type[ClientMessage] | None) -> int:
    """Return the number of elements that must be valid: those before the payload. For an unknown message: 1, its code."""
    return 1 if kind is None else HEADS.get(kind, 1 + len(kind.__struct_fields__))


def read(value: Any, kind: Any) -> Any:
    """Convert a decoded value to this type (an id, options) by the lenient rules for heads: null members of a map are absent,
    and a float without a fraction is an integer. Raise `msgspec.ValidationError` if that fails."""
    if type(value) is dict:
        value = {name: item for name, item in value.items() if item is not None}
    return msgspec.convert(replace(value, as_integer), kind)


def as_integer(item: Any) -> Any:
    return int(item) if type(item) is float and item.is_integer() else item


def tidied(elements: list[Any], kind: type[ClientMessage], change: Callable[[Any], Any]) -> ClientMessage:
    """Decode a message that is valid only after normalising: apply `change` to the items of its head, and drop options that
    are null. Raise one of `REFUSALS` if it is still invalid."""
    head = HEADS.get(kind, len(elements))
    tidy: list[Any] = replace(elements[:head], change)
    if "options" in kind.__struct_fields__ and len(tidy) > _OPTIONS and type(tidy[_OPTIONS]) is dict:
        tidy[_OPTIONS] = {name: item for name, item in tidy[_OPTIONS].items() if item is not None}
    return msgspec.convert(tidy + elements[head:], kind)


def checked(message: ClientMessage, codec: Codec) -> ClientMessage:
    """Return the message. Raise `Violation` unless its payload begins like a list and a map in this serializer, and its
    members with arbitrary content can be passed on."""
    if isinstance(message, Carrier):
        if message.args is not None and memoryview(message.args)[0] not in codec.lists and not _transparent(message):
            raise Violation(f"{_called(message)}: args: must be a list")
        if message.kwargs is not None and memoryview(message.kwargs)[0] not in codec.maps:
            raise Violation(f"{_called(message)}: kwargs: must be a map")
    member = _FREE.get(type(message))
    if member is not None:
        try:
            check(getattr(message, member), DEPTH)
        except Violation as error:
            raise Violation(f"{_called(message)}: {member}: {error}") from None
    return message


def _called(message: ClientMessage) -> str:
    return type(message).__name__.upper()


def _transparent(message: Carrier) -> bool:
    """Return whether the payload is encrypted in Autobahn's older form, and so no list of arguments."""
    if type(message) is Error:
        return type(message.details.get(TRANSPARENT)) is str
    options = getattr(message, "options", None)
    return isinstance(options, Passthru) and options.enc_algo is not None


def no_text(kind: type[ClientMessage] | None, element: int) -> Violation:
    """Return the error for a map in this element with a key that is no text."""
    if kind is None:
        return Violation(NO_TYPE)
    return Violation(f"{kind.__name__.upper()}: {('type code', *kind.__struct_fields__)[element]}: {NO_TEXT}")


def told(error: Exception, kind: type[ClientMessage]) -> Violation:
    """Return the decoder's error with the names of the message and the member instead of the index in the list."""
    complaint = reason(error)
    name = kind.__name__.upper()
    place = _PLACE.match(complaint)
    if place is None:
        # The lengths in its text sometimes exclude the type code.
        return Violation(f"{name}: {'too short or too long' if complaint.startswith('Expected `array` of') else complaint}")
    index = int(place["index"])
    member = ("type code", *kind.__struct_fields__)[index]
    key = "a key of " if place["key"] else ""
    why = "is none of those there are" if place["why"].startswith("Invalid enum value") else place["why"]
    return Violation(f"{name}: {key}{member}{place['rest']}: {why}")
