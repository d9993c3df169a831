"""WAMP's serializers: bytes to messages and values, and back.

A payload stays encoded on its way through: it is put as it came behind the header of the message in which it leaves. Nor does
a message depend on it: where the elements before it can be read there is a message, whatever is wrong with the bytes behind
them. `Payload.of_arguments` finds that, so that the one request fails and the session goes on. Values
are made of None, booleans, numbers, text, bytes, dates, lists, and maps with text for keys. Where a format lacks one of them:

* JSON has no bytes: they are text, NUL and then base64 (WAMP, "Binary Conversion of JSON Strings"); what follows a NUL and is
  no base64 is just text. It has no dates: they are text (RFC 3339). It has no NaN and no infinity: they are null, as in
  RFC 8949 section 6.1.
* MessagePack has no integers beyond 64 bits: they are the nearest double, which is how JavaScript reads them anyway. Its
  timestamps are dates (those that UTC cannot tell are written as text). Extension type 0 with a zero byte is what is undefined
  in JavaScript (msgpackr): it is null, also to MessagePack, where many decoders fail over what they do not know. Other
  extension types are refused.
* CBOR has more than is needed: undefined is null, other simple values are refused. Of its tags those for dates, and bignums
  as far as a double reaches, are understood, references to other values are refused, and of any other tag only the content
  is taken. Typed arrays (RFC 8746) and UUIDs keep their tag where the payload goes to CBOR. Others lose it: decoders fail over
  what is wrong inside of a tag that they know, and so one publisher could end the sessions of all its subscribers.

Refused besides are keys of maps that are no text (before they are hashed: numbers could be chosen to have one hash), text that
is no Unicode (JSON's escapes of lone surrogates among it), what a format does not know (NaN in JSON), and what is nested too
deep. Of members with the same name the last one counts.

In options null means the same as absence, and so does undefined. In MessagePack and CBOR JavaScript writes its larger integers
as floats: one without a fraction stands for the integer wherever a message must have one.
"""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from io import BytesIO
from typing import Any, ClassVar, Final, cast

import cbor2
import msgspec

from nexus_tw.model import slices
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

_SCALARS: Final = frozenset((type(None), bool, int, float, str, bytes, datetime))
_KEYS: Final = frozenset((str,))

DEPTH: Final = 256  # of nesting, where nobody asks for less


class Violation(Exception):
    """What a client sent is no WAMP message; the text names the member and the reason, and repeats nothing of it."""


_NO_TEXT: Final = "the keys of a map must be text"

_CBOR_KEY: Final = "map key must be a text string"  # begins what cbor2 says of others

# What the decoders raise (a UnicodeDecodeError is a ValueError); anything else would be a mistake in here.
_REFUSALS: Final = (msgspec.MsgspecError, cbor2.CBORDecodeError, ValueError, RecursionError)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    reason = str(error)
    return _NO_TEXT if _CBOR_KEY in reason else reason


class Codec:
    """One of WAMP's serializers. What it decodes comes from clients: all that is wrong with it is a `Violation`."""

    name: ClassVar[str]  # as in the subprotocol `wamp.2.NAME`
    number: ClassVar[int]  # as in RawSocket's handshake
    binary: ClassVar[bool]  # whether its WebSocket messages are binary ones

    def message(self, data: bytes) -> ClientMessage:
        """The message that a client sent; of its payload only that it begins as a list and a map do. If that is malformed, it
        may be in other parts than it would be: `args` may hold all that follows."""
        raise NotImplementedError

    def value(self, data: bytes, depth: int = DEPTH) -> Any:
        """The value, of nothing but what values are made of (see above), so that each serializer can encode it."""
        raise NotImplementedError

    def part(self, data: bytes, depth: int = DEPTH) -> tuple[Any, bytes]:
        """The value of a part of a payload, and the bytes in which it goes on to clients of this serializer."""
        return self.value(data, depth), data

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
                raise Violation(_NO_TEXT)
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

_CLASSES: Final[dict[int, type[ClientMessage]]] = {cast(int, each.__struct_config__.tag): each for each in AnyMessage.__args__}

# How many elements of a list are before the payload.
_HEADS: Final[dict[type[ClientMessage], int]] = {
    each: 1 + len(each.__struct_fields__) - len(Carrier.__struct_fields__)
    for each in _CLASSES.values()
    if issubclass(each, Carrier)
}

_OPTIONS: Final = 2  # their place, in every message that has options

# Members that hold what the client likes; those of the options are typed.
_FREE: Final[dict[type, str]] = {
    Hello: "details",
    Abort: "details",
    Authenticate: "extra",
    Goodbye: "details",
    Error: "details",
}


_PLACE: Final = re.compile(r"(?P<why>.*) - at (?P<key>`key` in )?`\$\[(?P<index>\d+)\](?P<rest>.*)`\Z", re.DOTALL)


_NO_LIST: Final = "a message is a list that begins with its type code"
_NO_TYPE: Final = "the type code is none of a message that clients send"


def _size(kind: type[ClientMessage] | None) -> int:
    """Return how many elements the message has before its payload, which fails alone; of one that there is not its code."""
    return 1 if kind is None else _HEADS.get(kind, 1 + len(kind.__struct_fields__))


def _no_text(kind: type[ClientMessage] | None, element: int) -> Violation:
    """Return what is wrong if this element holds a map with a key that is no text."""
    if kind is None:
        return Violation(_NO_TYPE)
    return Violation(f"{kind.__name__.upper()}: {('type code', *kind.__struct_fields__)[element]}: {_NO_TEXT}")


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


def _checked(message: ClientMessage, lists: frozenset[int], maps: frozenset[int]) -> ClientMessage:
    """The message, if its payload begins with the bytes of a list and a map, and what may be said freely can be passed on."""
    if isinstance(message, Carrier):
        if message.args is not None and memoryview(message.args)[0] not in lists and not _transparent(message):
            raise Violation(f"{_called(message).upper()}: args: must be a list")
        if message.kwargs is not None and memoryview(message.kwargs)[0] not in maps:
            raise Violation(f"{_called(message).upper()}: kwargs: must be a map")
    member = _FREE.get(type(message))
    if member is not None:
        try:
            _check(getattr(message, member), DEPTH)
        except Violation as error:
            raise Violation(f"{_called(message).upper()}: {member}: {error}") from None
    return message


def _transparent(message: Carrier) -> bool:
    """Whether its payload is no list of arguments, but something that only its receiver can open."""
    if type(message) is Error:
        return type(message.details.get(TRANSPARENT)) is str
    options = getattr(message, "options", None)
    return isinstance(options, Passthru) and options.enc_algo is not None


def _tidied(elements: list[Any], kind: type[ClientMessage], change: Callable[[Any], Any]) -> ClientMessage:
    """The message, of what is none to the letter: what is before its payload `change`d, and without null among its options."""
    size = _HEADS.get(kind, len(elements))
    tidy: list[Any] = _replace(elements[:size], change)
    if "options" in kind.__struct_fields__ and len(tidy) > _OPTIONS and type(tidy[_OPTIONS]) is dict:
        tidy[_OPTIONS] = {name: item for name, item in tidy[_OPTIONS].items() if item is not None}
    return msgspec.convert(tidy + elements[size:], kind)


def _as_integer(item: Any) -> Any:
    return int(item) if type(item) is float and item.is_integer() else item


def read(value: Any, kind: Any) -> Any:
    """Return a decoded value as this type (an id, options), read as the head of a message is read: null members of a map are
    absent, and a float without a fraction is the integer. Raise `msgspec.ValidationError` if it is none."""
    if type(value) is dict:
        value = {name: item for name, item in value.items() if item is not None}
    return msgspec.convert(_replace(value, _as_integer), kind)


class _Spliced(Codec):
    """A format whose messages msgspec decodes in one go, the parts of the payload left as they are."""

    _lists: ClassVar[frozenset[int]]  # first bytes
    _maps: ClassVar[frozenset[int]]

    def __init__(
        self,
        decoder: Callable[[Any], Callable[[bytes], Any]],
        change: Callable[[Any], Any],
        pieces: Callable[[bytes], list[bytes]],
    ) -> None:
        """`change` is done to what is before a payload where it is no message to the letter; `pieces` as in that module."""
        self._pieces = pieces
        self._message = decoder(AnyMessage)
        self._elements = decoder(list[msgspec.Raw])
        self._element = decoder(Any)
        self._change = change

    def message(self, data: bytes) -> ClientMessage:
        try:
            message = self._message(data)
        except _REFUSALS as error:
            message = self._message_apart(data, error)
        return _checked(message, self._lists, self._maps)

    def _message_apart(self, data: bytes, error: Exception) -> ClientMessage:
        """The same, element by element, of what is none in one go because of `error`."""
        try:
            elements = self._elements(data)
        except msgspec.ValidationError:
            raise Violation(_NO_LIST) from None
        except _REFUSALS:
            elements = self._cut(data, error)
        try:
            code = self._element(elements[0]) if elements else None
        except _REFUSALS:
            raise Violation(_reason(error)) from None
        if type(code) is not int:
            raise Violation(_NO_LIST)
        if code not in _CLASSES:
            raise Violation(_NO_TYPE)
        kind = _CLASSES[code]
        size = _HEADS.get(kind, len(elements))
        try:
            return _tidied([*map(self._element, elements[:size]), *elements[size:]], kind, self._change)
        except _REFUSALS:
            raise _told(error, kind) from None

    def _cut(self, data: bytes, error: Exception) -> list[msgspec.Raw]:
        """The elements of a list in which something is malformed. Where the end of one cannot be found, all that is left is
        the last. `Violation` for the reason of `error` where there is no such list."""
        try:
            found = self._pieces(data)
        except ValueError:
            found = [b""]
        if found and not found[-1]:
            raise Violation(_reason(error)) from None
        return [*map(msgspec.Raw, found)]


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


class _Extensions:
    """What is made of extension types, and of how many it was None."""

    undefined = 0

    def __call__(self, code: int, data: memoryview) -> Any:
        content = bytes(data)
        if (code, content) == (0, b"\0"):
            self.undefined += 1
            return None
        return msgspec.msgpack.Ext(code, content)


_extensions: Final = _Extensions()
_msgpack_encode: Final = msgspec.msgpack.Encoder().encode
_msgpack_decode: Final = msgspec.msgpack.Decoder(ext_hook=_extensions).decode


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

    def message(self, data: bytes) -> ClientMessage:
        if slices.has_large_maps(data):
            kind: type[ClientMessage] | None = None

            def heads(code: bytes) -> int:
                nonlocal kind
                kind = self._kind(code)
                return _size(kind)

            try:
                slices.check_keys_of(data, heads)
            except slices.KeyIsNoText as error:
                raise _no_text(kind, error.element) from None
        return super().message(data)

    def _kind(self, code: bytes) -> type[ClientMessage] | None:
        try:
            number = self._element(code)
        except _REFUSALS:
            return None
        return _CLASSES.get(number) if type(number) is int else None

    def value(self, data: bytes, depth: int = DEPTH) -> Any:
        try:
            if slices.has_large_maps(data):
                slices.check_keys(data)
            value = _msgpack_decode(data)
        except _REFUSALS as error:
            raise Violation(_reason(error)) from None
        _check(value, depth)
        return value

    def part(self, data: bytes, depth: int = DEPTH) -> tuple[Any, bytes]:
        before = _extensions.undefined
        value = self.value(data, depth)
        return value, (data if _extensions.undefined == before else self.encode(value))

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
_BIGNUMS: Final = frozenset((2, 3))
_NEGATIVE: Final = 3
_UUID: Final = 37
_REFERENCES: Final = frozenset((25, 28, 29, 256))  # a short message that stands for a very long one, or for one without end


def _reference(_content: Any, _inside_key: bool) -> Any:
    raise ValueError("references are not taken")


def _fits(tag: int, content: Any) -> bool:
    """Whether this is a UUID or a typed array, and nobody who knows such can find a mistake in it."""
    if type(content) is not bytes:
        return False
    if tag == _UUID:
        return len(content) == 16
    # RFC 8746 section 2.1: the bits of the tag; 76 is none.
    return 64 <= tag < 88 and tag != 76 and len(content) % (1 << (tag >> 4 & 1) + (tag & 3)) == 0


# Keys that are neither text nor bytes are refused before they are hashed.
_cbor: Final = partial(cbor2.CBORDecoder, max_depth=DEPTH, strict_hashable_types=True)


class _Tags(dict[int, Callable[[Any, bool], Any]]):
    """What is made of each tag. cbor2 asks here first: its own decoders compile regular expressions, parse mail, and more.

    `removed` tells afterwards whether there was one of which nothing but the content is taken: any that is not understood, or
    that is inside of another one.
    """

    removed = False
    _asked = 0  # for how many, each of them before it is known what is inside

    def __missing__(self, tag: int) -> Callable[[Any, bool], Any]:
        if tag in _DATES:
            raise KeyError(tag)
        if tag in _REFERENCES:
            return _reference
        self._asked += 1
        return partial(self._bignum if tag in _BIGNUMS else self._other, tag, self._asked)

    def _bignum(self, tag: int, asked: int, content: Any, inside_key: bool) -> int:
        # As keys they could be chosen so that all have one hash.
        if type(content) is not bytes or len(content) > 127 or inside_key:
            raise ValueError("no bignum, larger than any double, or in a key")
        self.removed |= asked != self._asked
        number = int.from_bytes(content)
        return -1 - number if tag == _NEGATIVE else number

    def _other(self, tag: int, asked: int, content: Any, _inside_key: bool) -> Any:
        self.removed |= asked != self._asked or not _fits(tag, content)
        return content


def _undefined_as_null(item: Any) -> Any:
    return None if item is cbor2.undefined else item


_SHORT: Final = range(0x80, 0x98)  # first bytes of lists, that of an empty one and those that count on from it
_SHORTS: Final = [bytes((first,)) for first in _SHORT]
_SIZES: Final = {cbor2.dumps(kind.__struct_config__.tag): size for kind, size in _HEADS.items()}  # by encoded type codes
# How a list may begin, with how many elements it says that it has (31: until its end); perhaps with a tag: this is CBOR.
_START: Final = re.compile(rb"(?:\xd9\xd9\xf7)?(?:([\x80-\x97\x9f])|\x98(.)|\x99(..)|\x9a(.{4})|\x9b(.{8}))", re.DOTALL)


def _count(start: re.Match[bytes]) -> int:
    count = int.from_bytes(start[start.lastindex or 1])
    return count & 0x1F if start.lastindex == 1 else count


_MORE: Final = "more bytes than there are to the value"


class _Cbor(Codec):
    name = "cbor"
    number = 3
    binary = True

    _lists = frozenset((*range(0x80, 0x9C), 0x9F))
    _maps = frozenset((*range(0xA0, 0xBC), 0xBF))

    def message(self, data: bytes) -> ClientMessage:
        size = _SIZES.get(data[1:2]) or _SIZES.get(data[1:3])
        elements = self._sliced(data, size) if size and data[0] in _SHORT else self._rewritten(data)
        kind = _CLASSES.get(elements[0])
        if kind is None:
            raise Violation(_NO_TYPE)
        try:
            message: ClientMessage = msgspec.convert(elements, kind)
        except _REFUSALS as error:
            try:
                message = _tidied(elements, kind, _as_integer)
            except _REFUSALS:
                raise _told(error, kind) from None
        return _checked(message, self._lists, self._maps)

    def _sliced(self, data: bytes, size: int) -> list[Any]:
        """The elements, those behind so many encoded as they came, unless a tag is to be removed."""
        count = data[0] - _SHORT.start
        tags = _Tags()
        # The head alone, as a list: that is one thing to decode.
        stream = BytesIO(_SHORTS[min(size, count)] + data[1:])
        decode = _cbor(stream, semantic_decoders=tags).decode
        try:
            elements: list[Any] = decode()
            if b"\xf7" in data:
                elements = _replace(elements, _undefined_as_null)
            end = stream.tell()
        except _REFUSALS as error:
            return self._cut(data, _reason(error))
        for _ in range(size, count):
            begin = end
            try:
                part, end = decode(), stream.tell()
            except _REFUSALS as error:
                if begin == len(data):
                    raise Violation(_reason(error)) from None
                elements.append(msgspec.Raw(data[begin:]))
                return elements
            elements.append(msgspec.Raw(cbor2.dumps(part) if tags.removed else data[begin:end]))
        if end != len(data):
            raise Violation(_MORE)
        return elements

    def _rewritten(self, data: bytes) -> list[Any]:
        """The same of what begins in any other way: without a payload, or with numbers that are longer than they need be."""
        try:
            items = self._load(data)
        except Violation as violation:
            return self._cut(data, str(violation))
        if type(items) is not list or not items or type(items[0]) is not int:
            raise Violation(_NO_LIST)
        kind = _CLASSES.get(items[0])
        if kind is not None:
            size = _HEADS.get(kind, len(items))
            items[size:] = [msgspec.Raw(cbor2.dumps(part)) for part in items[size:]]
        return items

    def _cut(self, data: bytes, reason: str) -> list[Any]:
        """The elements before a payload in which something is malformed, and as one more all that follows them. Raise
        `Violation` for the given reason if that is not what is wrong."""
        start = _START.match(data)
        if start is None:
            raise Violation(reason)
        stream = BytesIO(data[start.end() :])
        decode = _cbor(stream, semantic_decoders=_Tags()).decode
        elements: list[Any] = []
        rest = b""
        try:
            code = decode()
            kind = _CLASSES.get(code) if type(code) is int else None
            elements.append(code)
            elements.extend(decode() for _ in range(1, _size(kind)))
            if kind in _HEADS:
                rest = data[start.end() + stream.tell() :]
                for _ in range(_size(kind), _count(start)):
                    decode()
        except _REFUSALS as error:
            if rest:
                return [*_replace(elements, _undefined_as_null), msgspec.Raw(rest)]
            if _reason(error) == _NO_TEXT and elements:
                raise _no_text(kind, len(elements)) from None
        raise Violation(reason)

    def value(self, data: bytes, depth: int = DEPTH) -> Any:
        value = self._load(data)
        _check(value, depth)
        return value

    def _load(self, data: bytes) -> Any:
        stream = BytesIO(data)
        try:
            value = _cbor(stream, semantic_decoders=_Tags()).decode()
        except _REFUSALS as error:
            raise Violation(_reason(error)) from None
        if stream.tell() != len(data):
            raise Violation(_MORE)
        return _replace(value, _undefined_as_null) if b"\xf7" in data else value

    def encode(self, value: Any) -> bytes:
        return cbor2.dumps(value)

    def join(self, header: Sequence[Any], args: bytes | None = None, kwargs: bytes | None = None) -> bytes:
        return _joined(self.encode(header), b"\x80", args, kwargs)


JSON: Final[Codec] = _Json(lambda kind: msgspec.json.Decoder(kind).decode, lambda item: item, slices.of_json)
MSGPACK: Final[Codec] = _MessagePack(
    lambda kind: msgspec.msgpack.Decoder(kind, ext_hook=_extensions).decode, _as_integer, slices.of_msgpack
)
CBOR: Final[Codec] = _Cbor()
CODECS: Final[dict[str, Codec]] = {codec.name: codec for codec in (JSON, MSGPACK, CBOR)}
