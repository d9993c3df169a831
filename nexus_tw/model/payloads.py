"""Payloads of events, calls and commands: validated once on arrival, with a bound on nesting, and converted between formats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Raw

from nexus_tw.model.errors import ERRORS, NexusError, invalid
from nexus_tw.model.serializers import CODECS, JSON, Codec, Violation

Shape = Literal["natural", "value", "pair", "opaque"]
Arguments = tuple[bytes | None, bytes | None]
Packed = tuple[Shape, str, bytes | None, bytes | None, bytes | None]
"""A payload between nodes: shape, name of the serializer, list, map, and the one JSON value that it came as instead."""

_decode: Final = msgspec.json.Decoder().decode


def decode(raw: bytes | Raw, member: str, depth: int) -> Any:
    """Return the decoded value. Raise `invalid_message`, naming the member, if it is no JSON or nested deeper than `depth`."""
    data = bytes(raw)
    try:
        value = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(member, str(error)) from None
    except RecursionError:
        raise invalid(member, f"nested deeper than {depth}") from None
    # Counting brackets suffices for nearly every message; only the others need a traversal.
    if data.count(b"{") + data.count(b"[") > depth and _depth(value, depth) > depth:
        raise invalid(member, f"nested deeper than {depth}")
    return value


def _depth(value: Any, enough: int) -> int:
    """Return the nesting depth of objects and lists; stops beyond `enough`."""
    depth = 0
    level = _containers([value])
    while level and depth <= enough:
        depth += 1
        level = [inner for item in level for inner in _containers(item.values() if type(item) is dict else item)]
    return depth


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if type(value) is dict or type(value) is list]


class _Pair(msgspec.Struct, gc=False):
    args: Raw
    kwargs: Raw


_pair: Final = msgspec.json.Decoder(_Pair).decode


class Payload:
    """The payload of an event or call: one value for JSON clients, a list and a map of arguments for WAMP clients.

    The value of WAMP arguments is the map if the list is empty, the only element if the list has one and there is no map, and
    otherwise (also without any arguments) `{"args": [..], "kwargs": {..}}`. The shape defines the reverse conversion:

    * natural: an object is the map; any other value is the only element of the list;
    * value: the value is the only element of the list, even if it is an object;
    * pair: the arguments are the members `args` and `kwargs`, unless empty;
    * opaque: the value, bytes or text that only the recipient can decrypt, takes the place of the list.

    The payload is kept as it came, plus each other form once it has been requested. It was validated on arrival, so that each
    form can be made. `nexus_tw.model.serializers` documents conversions between formats.
    """

    __slots__ = ("_data", "_forms", "_origin", "_value", "shape")

    def __init__(self, shape: Shape, origin: Codec, came: Arguments | None, data: bytes | None, value: Any) -> None:
        self.shape = shape  # goes with `data` wherever that goes
        self._origin = origin
        self._forms: dict[str, Arguments] = {} if came is None else {origin.name: came}
        self._data = data
        self._value = value

    @classmethod
    def of_value(cls, data: bytes, shape: Shape = "natural") -> Payload:
        """Return the payload of validated JSON. Raise `invalid_message` if its shape is `pair` but it is none."""
        payload = cls(shape, JSON, None, data, UNSET)
        if shape == "pair":
            payload.arguments(JSON)
        return payload

    @classmethod
    def of_json(cls, raw: bytes | Raw, member: str, depth: int) -> Payload:
        """Return the payload of JSON from a client. Raise what `decode` does."""
        data = bytes(raw)
        return cls("natural", JSON, None, data, decode(data, member, depth))

    @classmethod
    def of_arguments(cls, codec: Codec, args: bytes | Raw | None, kwargs: bytes | Raw | None, depth: int) -> Payload:
        """Return the payload of a WAMP message.

        Raise `invalid_message`, naming `args` or `kwargs`, if that cannot be decoded, is no list or map respectively, is nested
        deeper than `depth`, or contains values that other formats cannot represent.
        """
        listed: list[Any] = []
        mapped: dict[str, Any] = {}
        if args is not None:
            listed, args = _decoded(codec, bytes(args), "args", depth)
            if type(listed) is not list:
                raise invalid("args", "must be a list")
        if kwargs is not None:
            mapped, kwargs = _decoded(codec, bytes(kwargs), "kwargs", depth)
            if type(mapped) is not dict:
                raise invalid("kwargs", "must be a map")
        shape: Shape = "natural"
        value: Any
        if mapped and not listed:
            value = mapped
        elif len(listed) == 1 and not mapped:
            value = listed[0]
            if type(value) is dict:
                shape = "value"
        else:
            shape = "pair"
            value = {"args": listed, "kwargs": mapped}
        return cls(shape, codec, (args, kwargs), None, value if codec is JSON else UNSET)

    @classmethod
    def of_opaque(cls, codec: Codec, args: bytes | Raw | None, kwargs: bytes | Raw | None) -> Payload:
        """Return an opaque payload as sent. Raise `invalid_message` unless it is one binary value or text."""
        if args is None or kwargs is not None:
            raise invalid("args", "must be the encrypted payload, and nothing behind it")
        try:
            value, part = codec.part(bytes(args))
        except Violation as error:
            raise invalid("args", str(error)) from None
        if type(value) is not bytes and type(value) is not str:
            raise invalid("args", "must be the encrypted payload: binary, or text")
        return cls("opaque", codec, (part, None), None, UNSET)

    @classmethod
    def unpacked(cls, packed: Packed) -> Payload:
        """Return the payload that another node has `packed`. Raise `KeyError` if this node lacks its serializer."""
        shape, origin, args, kwargs, data = packed
        return cls(shape, CODECS[origin], None if data is not None else (args, kwargs), data, UNSET)

    @property
    def packed(self) -> Packed:
        """The payload in the form in which it came, for another node."""
        came = self._forms.get(self._origin.name)
        if came is None or (self._origin is JSON and self._data is not None):
            return self.shape, self._origin.name, None, None, self._data
        return self.shape, self._origin.name, *came, None

    @property
    def size(self) -> int:
        """The size in bytes of the form in which it came."""
        if self._data is not None:
            return len(self._data)
        args, kwargs = self._forms[self._origin.name]
        return (0 if args is None else len(args)) + (0 if kwargs is None else len(kwargs))

    @property
    def data(self) -> bytes:
        """The value as JSON."""
        if self._data is None:
            self._data = self._joined(*self.arguments(JSON))
        return self._data

    @property
    def parameters(self) -> bytes:
        """The value as JSON, for parameters: an empty object if there are no arguments at all."""
        return b"{}" if self.shape == "pair" and self.value == {"args": [], "kwargs": {}} else self.data

    @property
    def value(self) -> Any:
        """The value, decoded from JSON. It is shared; callers must not change it."""
        if self._value is UNSET:
            self._value = _decode(self.data)
        return self._value

    def published(self) -> Payload:
        """Return the payload as subscribers get it, whatever format it came in: made from `data`, with the known value."""
        if not self._forms and self._data is not None:  # it came as one JSON value
            return self
        return Payload(self.shape, JSON, None, self.data, self._value)

    @property
    def decoded(self) -> int:
        """Bytes of `data` if its decoded value is kept beside it, else 0."""
        data = self._data
        return 0 if data is None or self._value is UNSET else len(data)

    def forget(self) -> None:
        """Drop the decoded value, which may take many times the bytes; `value` decodes again."""
        self._value = UNSET

    def summary(self, name: str) -> str:
        """Return an error message: the name, followed by the first argument if that is text."""
        if self.shape == "opaque":
            return name
        args, _ = self.arguments(JSON)
        listed = JSON.value(args) if args is not None else []
        return f"{name}: {listed[0]}" if listed and type(listed[0]) is str else name

    def arguments(self, codec: Codec) -> Arguments:
        """Return the encoded list and map, each None if absent; the original bytes if the payload came in that format.

        Raise `invalid_message` if a payload of the server itself, or of another program on the bus, has no form in this format.
        """
        form = self._forms.get(codec.name)
        if form is None:
            form = self._forms[codec.name] = self._form(codec)
        return form

    def _form(self, codec: Codec) -> Arguments:
        if codec is self._origin:  # its form exists from the start, unless the payload came as `data`
            return self._split(self.data)
        args, kwargs = self.arguments(self._origin)
        return self._converted(args, codec), self._converted(kwargs, codec)

    def _converted(self, part: bytes | None, codec: Codec) -> bytes | None:
        if part is None:
            return None
        try:
            return codec.encode(self._origin.value(part))
        except Violation as error:
            raise invalid("payload", str(error)) from None

    def _joined(self, args: bytes | None, kwargs: bytes | None) -> bytes:
        if self.shape == "pair":
            return b'{"args":%b,"kwargs":%b}' % (args or b"[]", kwargs or b"{}")
        if self.shape == "opaque":
            return args or b"null"
        inner = args.strip()[1:-1].strip() if args is not None else b""
        return inner or kwargs or b"{}"

    def _split(self, data: bytes) -> Arguments:
        if self.shape == "opaque":
            return data, None
        if self.shape == "natural" and data.lstrip().startswith(b"{"):
            return b"[]", data
        if self.shape != "pair":
            return b"[%b]" % data, None
        try:
            pair = _pair(data)
        except msgspec.DecodeError:
            raise invalid("data", "no pair of args and kwargs") from None
        args, kwargs = bytes(pair.args), bytes(pair.kwargs)
        if args[:1] != b"[" or kwargs[:1] != b"{":
            raise invalid("data", "no pair of args and kwargs")
        if kwargs[1:-1].strip():
            return args, kwargs
        return (args if args[1:-1].strip() else None), None


def _decoded(codec: Codec, part: bytes, member: str, depth: int) -> tuple[Any, bytes]:
    if codec is JSON:
        return decode(part, member, depth), part
    try:
        return codec.part(part, depth)
    except Violation as error:
        raise invalid(member, str(error)) from None


Options = Mapping[str, str] | None
"""The options of a payload in passthru mode (WAMP), passed on unchanged."""


class ApplicationError(NexusError):
    """An error that a WAMP callee returned: its URI and payload."""

    def __init__(self, uri: str, payload: Payload, message: str, options: Mapping[str, str] | None = None) -> None:
        """`message` is the text for clients of other protocols; `options` are those of a payload in passthru mode."""
        super().__init__(_CODES.get(uri, "failed"), message, uri)
        self.payload = payload
        self.options = options


# The command error codes for errors of callees with one of WAMP's own URIs.
_CODES: Final = {
    ERRORS[code].wamp: code for code in ("forbidden", "no_such_command", "cancelled", "timeout", "too_large")
}
