"""WAMP's serializers: bytes to messages and values, and back.

A payload stays encoded on its way through: it is put as it came behind the header of the message in which it leaves. Values
are made of None, booleans, numbers, text, bytes, dates, lists, and maps with text for keys. Where a format lacks one of them:

* JSON has no bytes: they are text, NUL and then base64 (WAMP, "Binary Conversion of JSON Strings"); what follows a NUL and is
  no base64 is just text. It has no dates: they are text (RFC 3339). It has no NaN and no infinity: they are null, as in
  RFC 8949 section 6.1.
* MessagePack has no integers beyond 64 bits: they are the nearest double, which is how JavaScript reads them anyway. Its
  timestamps are dates (those that UTC cannot tell are written as text); other extension types are refused.
* CBOR has more than is needed: undefined is null, other simple values are refused. Of its tags those for dates, and bignums
  as far as a double reaches, are understood, references to other values are refused, and of any other tag only the content
  is taken.
"""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from io import BytesIO
from typing import Any, ClassVar, Final, cast

import cbor2
import msgspec

from nexus_tw.wamp.messages import Abort, AnyMessage, Authenticate, Carrier, ClientMessage, Error, Goodbye, Hello

_SCALARS: Final = frozenset((type(None), bool, int, float, str, bytes, datetime))
_KEYS: Final = frozenset((str,))

DEPTH: Final = 256  # of nesting, where nobody asks for less


class Violation(Exception):
    """What a client sent is no WAMP message; the text names the member and the reason, and repeats nothing of it."""


# What the decoders raise (a UnicodeDecodeError is a ValueError); anything else would be a mistake in here.
_REFUSALS: Final = (msgspec.MsgspecError, cbor2.CBORDecodeError, ValueError, RecursionError)


def _reason(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


class Codec:
    """One of WAMP's serializers. What it decodes comes from clients: all that is wrong with it is a `Violation`."""

    name: ClassVar[str]  # as in the subprotocol `wamp.2.NAME`
    number: ClassVar[int]  # as in RawSocket's handshake
    binary: ClassVar[bool]  # whether its WebSocket messages are binary ones

    def message(self, data: bytes) -> ClientMessage:
        """The message that a client sent; of its payload only that it is a list and a map."""
        raise NotImplementedError

    def value(self, data: bytes, depth: int = DEPTH) -> Any:
        """The value, of nothing but what values are made of (see above), so that each serializer can encode it."""
        raise NotImplementedError

    def encode(self, value: Any) -> bytes:
        """The other way; takes tuples for lists too. Anything else in it is a mistake of the caller's (TypeError)."""
        raise NotImplementedError

    def join(self, header: Sequence[Any], args: bytes | None = None, kwargs: bytes | None = None) -> bytes:
        """A whole message: these elements, and behind them the parts of a payload, which this serializer has encoded."""
        raise NotImplementedError


# --- values -------------------------------------------------------------------------------------------------------------


def _check(value: Any, depth: int) -> None:
    """Lets nothing pass that is not among what values are made of, or that is nested deeper."""
    level = [value]
    for left in range(depth, -1, -1):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind in _SCALARS:
                continue
            if kind is not list and kind is not dict:
                raise Violation(f"{_called(item)} cannot be passed on")
            if left == 0:
                raise Violation(f"nested deeper than {depth}")
            if kind is list:
                below += item
            elif _KEYS.issuperset(map(type, item)):
                below += item.values()
            else:
                raise Violation("the keys of a map must be text")
        if not below:
            break
        level = below


def _called(item: Any) -> str:
    return type(item).__name__


def _replace(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same value with everything in it that is no list and no map as `change` returns it."""
    kind = type(value)
    if kind is dict:
        return {key: _replace(item, change) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_replace(item, change) for item in value]
    return change(value)


# --- messages -----------------------------------------------------------------------------------------------------------

_CLASSES: Final = {cast(int, each.__struct_config__.tag): each for each in AnyMessage.__args__}

# How many elements of a list are before the payload.
_HEADS: Final = {
    code: 1 + len(each.__struct_fields__) - len(Carrier.__struct_fields__)
    for code, each in _CLASSES.items()
    if issubclass(each, Carrier)
}

# Members that hold what the client likes; those of the options are typed.
_FREE: Final[dict[type, str]] = {
    Hello: "details",
    Abort: "details",
    Authenticate: "extra",
    Goodbye: "details",
    Error: "details",
}


class _Head(msgspec.Struct, array_like=True):
    code: int


_PLACE: Final = re.compile(r"(?P<why>.*) - at (?P<key>`key` in )?`\$\[(?P<index>\d+)\](?P<rest>.*)`\Z", re.DOTALL)


_NO_LIST: Final = "a message is a list that begins with its type code"
_NO_TYPE: Final = "the type code is none of a message that clients send"


def _told(error: Exception, kind: type[ClientMessage]) -> Violation:
    """The decoder's complaint, with the names of the message and its member for the place in the list."""
    reason = _reason(error)
    name = kind.__name__.upper()
    place = _PLACE.match(reason)
    if place is None:
        # The lengths that it tells are sometimes without the type code.
        return Violation(f"{name}: {'too short or too long' if reason.startswith('Expected `array` of') else reason}")
    index = int(place["index"])
    member = ("type code", *kind.__struct_fields__)[index]
    key = "a key of " if place["key"] else ""
    why = "is none of those there are" if place["why"].startswith("Invalid enum value") else place["why"]
    return Violation(f"{name}: {key}{member}{place['rest']}: {why}")


def _check_free(message: ClientMessage) -> None:
    member = _FREE.get(type(message))
    if member is not None:
        try:
            _check(getattr(message, member), DEPTH)
        except Violation as error:
            raise Violation(f"{_called(message).upper()}: {member}: {error}") from None


class _Spliced(Codec):
    """A format whose messages msgspec decodes in one go, the parts of the payload left as they are."""

    _lists: ClassVar[frozenset[int]]  # first bytes
    _maps: ClassVar[frozenset[int]]

    def __init__(self, message: Callable[[bytes], ClientMessage], head: Callable[[bytes], _Head]) -> None:
        self._message = message
        self._head = head

    def message(self, data: bytes) -> ClientMessage:
        try:
            message = self._message(data)
        except _REFUSALS as error:
            raise self._told(error, data) from None
        if isinstance(message, Carrier):
            if message.args is not None and memoryview(message.args)[0] not in self._lists:
                raise Violation(f"{_called(message).upper()}: args: must be a list")
            if message.kwargs is not None and memoryview(message.kwargs)[0] not in self._maps:
                raise Violation(f"{_called(message).upper()}: kwargs: must be a map")
        _check_free(message)
        return message

    def _told(self, error: Exception, data: bytes) -> Violation:
        try:
            code = self._head(data).code
        except msgspec.ValidationError:
            return Violation(_NO_LIST)
        except _REFUSALS:
            return Violation(_reason(error))
        kind = _CLASSES.get(code)
        return Violation(_NO_TYPE) if kind is None else _told(error, kind)


# --- JSON ---------------------------------------------------------------------------------------------------------------

_json_encode: Final = msgspec.json.Encoder().encode
_json_decode: Final = msgspec.json.Decoder().decode


def _holds_bytes(items: Any) -> bool:
    for item in items:
        kind = type(item)
        if kind is bytes:
            return True
        if kind is dict:
            if item and _holds_bytes(item.values()):
                return True
        elif (kind is list or kind is tuple) and item and _holds_bytes(item):
            return True
    return False


def _bytes_as_text(item: Any) -> Any:
    return "\0" + binascii.b2a_base64(item, newline=False).decode() if type(item) is bytes else item


def _text_as_bytes(item: Any) -> Any:
    if type(item) is str and item.startswith("\0"):
        try:
            return binascii.a2b_base64(item[1:], strict_mode=True)
        except ValueError:
            return item
    return item


class _Json(_Spliced):
    name = "json"
    number = 1
    binary = False

    _lists = frozenset(b"[")
    _maps = frozenset(b"{")

    def value(self, data: bytes, depth: int = DEPTH) -> Any:
        try:
            value = _json_decode(data)
        except _REFUSALS as error:
            raise Violation(_reason(error)) from None
        _check(value, depth)
        # There is one way only to spell a NUL.
        return _replace(value, _text_as_bytes) if b"\\u0000" in data else value

    def encode(self, value: Any) -> bytes:
        return _json_encode(_replace(value, _bytes_as_text) if _holds_bytes((value,)) else value)

    def join(self, header: Sequence[Any], args: bytes | None = None, kwargs: bytes | None = None) -> bytes:
        head = self.encode(header)
        if kwargs is not None:
            return b"%b,%b,%b]" % (head[:-1], b"[]" if args is None else args, kwargs)
        return head if args is None else b"%b,%b]" % (head[:-1], args)


# --- MessagePack --------------------------------------------------------------------------------------------------------

_msgpack_encode: Final = msgspec.msgpack.Encoder().encode
_msgpack_decode: Final = msgspec.msgpack.Decoder().decode


def _within_64_bits(item: Any) -> Any:
    if type(item) is int and not -(2**63) <= item < 2**64:
        try:
            return float(item)
        except OverflowError:
            return math.inf if item > 0 else -math.inf
    if type(item) is datetime:
        try:
            _msgpack_encode(item)
        except OverflowError:
            return item.isoformat()
    return item


class _MessagePack(_Spliced):
    name = "msgpack"
    number = 2
    binary = True

    _lists = frozenset((*range(0x90, 0xA0), 0xDC, 0xDD))
    _maps = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))

    def value(self, data: bytes, depth: int = DEPTH) -> Any:
        try:
            value = _msgpack_decode(data)
        except _REFUSALS as error:
            raise Violation(_reason(error)) from None
        _check(value, depth)
        return value

    def encode(self, value: Any) -> bytes:
        try:
            return _msgpack_encode(value)
        except OverflowError:
            return _msgpack_encode(_replace(value, _within_64_bits))

    def join(self, header: Sequence[Any], args: bytes | None = None, kwargs: bytes | None = None) -> bytes:
        return _joined(self.encode(header), b"\x90", args, kwargs)


def _joined(head: bytes, empty: bytes, args: bytes | None, kwargs: bytes | None) -> bytes:
    # A short list begins with one byte, in MessagePack and CBOR: that of an empty one, and its length.
    if kwargs is not None:
        return b"%c%b%b%b" % (head[0] + 2, head[1:], empty if args is None else args, kwargs)
    return head if args is None else b"%c%b%b" % (head[0] + 1, head[1:], args)


# --- CBOR ---------------------------------------------------------------------------------------------------------------

_DATES: Final = frozenset((0, 1))
_POSITIVE, _NEGATIVE = 2, 3
_REFERENCES: Final = frozenset((25, 28, 29, 256))  # a short message that stands for a very long one, or for one without end


def _bignum(content: Any, inside_key: bool) -> int:
    # As keys they could be chosen so that all have one hash.
    if type(content) is not bytes or len(content) > 127 or inside_key:
        raise ValueError("no bignum, larger than any double, or in a key")
    return int.from_bytes(content)


def _negative(content: Any, inside_key: bool) -> int:
    return -1 - _bignum(content, inside_key)


def _reference(_content: Any, _inside_key: bool) -> Any:
    raise ValueError("references are not taken")


def _content(content: Any, _inside_key: bool) -> Any:
    return content


class _Tags(Mapping[int, Callable[[Any, bool], Any]]):
    """What is made of each tag. cbor2 asks here first: its own decoders compile regular expressions, parse mail, and more."""

    def __getitem__(self, tag: int) -> Callable[[Any, bool], Any]:
        if tag in _DATES:
            raise KeyError(tag)
        if tag in _REFERENCES:
            return _reference
        return {_POSITIVE: _bignum, _NEGATIVE: _negative}.get(tag, _content)

    def __iter__(self) -> Iterator[int]:
        raise NotImplementedError("any number may be a tag")

    def __len__(self) -> int:
        raise NotImplementedError("any number may be a tag")


_TAGS: Final = _Tags()


def _undefined_as_null(item: Any) -> Any:
    return None if item is cbor2.undefined else item


class _Cbor(Codec):
    name = "cbor"
    number = 3
    binary = True

    def message(self, data: bytes) -> ClientMessage:
        items = self._load(data)
        if type(items) is not list or not items or type(items[0]) is not int:
            raise Violation(_NO_LIST)
        kind = _CLASSES.get(items[0])
        if kind is None:
            raise Violation(_NO_TYPE)
        size = _HEADS.get(items[0], len(items))
        try:
            message: ClientMessage = msgspec.convert(items[:size], kind)
        except _REFUSALS as error:
            raise _told(error, kind) from None
        if isinstance(message, Carrier):
            self._carry(message, items[size:])
        _check_free(message)
        return message

    def _carry(self, message: Carrier, parts: list[Any]) -> None:
        name = _called(message).upper()
        if len(parts) > 2:
            raise Violation(f"{name}: too short or too long")
        if parts:
            if type(parts[0]) is not list:
                raise Violation(f"{name}: args: must be a list")
            message.args = msgspec.Raw(cbor2.dumps(parts[0]))
        if len(parts) == 2:
            if type(parts[1]) is not dict:
                raise Violation(f"{name}: kwargs: must be a map")
            message.kwargs = msgspec.Raw(cbor2.dumps(parts[1]))

    def value(self, data: bytes, depth: int = DEPTH) -> Any:
        value = self._load(data)
        _check(value, depth)
        return value

    def _load(self, data: bytes) -> Any:
        stream = BytesIO(data)
        try:
            value = cbor2.load(stream, semantic_decoders=_TAGS, max_depth=DEPTH)
        except _REFUSALS as error:
            raise Violation(_reason(error)) from None
        if stream.tell() != len(data):
            raise Violation("more bytes than there are to the value")
        return _replace(value, _undefined_as_null) if b"\xf7" in data else value

    def encode(self, value: Any) -> bytes:
        return cbor2.dumps(value)

    def join(self, header: Sequence[Any], args: bytes | None = None, kwargs: bytes | None = None) -> bytes:
        return _joined(self.encode(header), b"\x80", args, kwargs)


JSON: Final[Codec] = _Json(msgspec.json.Decoder(AnyMessage).decode, msgspec.json.Decoder(_Head).decode)
MSGPACK: Final[Codec] = _MessagePack(msgspec.msgpack.Decoder(AnyMessage).decode, msgspec.msgpack.Decoder(_Head).decode)
CBOR: Final[Codec] = _Cbor()
CODECS: Final[dict[str, Codec]] = {codec.name: codec for codec in (JSON, MSGPACK, CBOR)}
