"""What is passed on or kept: decoded once to be sure of it, and no deeper than its readers can be expected to follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Raw

from nexus_tw.model.errors import ERRORS, NexusError, invalid
from nexus_tw.model.serializers import JSON, Codec, Violation

Shape = Literal["natural", "value", "pair", "opaque"]
Arguments = tuple[bytes | None, bytes | None]

_decode: Final = msgspec.json.Decoder().decode


def decode(raw: bytes | Raw, member: str, depth: int) -> Any:
    """The decoded value; `invalid_message` that names the member where it is no JSON, or nested deeper than `depth`."""
    data = bytes(raw)
    try:
        value = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(member, str(error)) from None
    except RecursionError:
        raise invalid(member, f"nested deeper than {depth}") from None
    # Counting brackets settles nearly every message without a walk through it.
    if data.count(b"{") + data.count(b"[") > depth and _depth(value, depth) > depth:
        raise invalid(member, f"nested deeper than {depth}")
    return value


def _depth(value: Any, enough: int) -> int:
    """How deep objects and lists are nested; stops looking past `enough`."""
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
    """What an event or a call carries: for JSON clients one value, for those of WAMP a list of arguments and a map of them.

    The arguments are the map itself where there is nothing else, the value itself where there is one in the list and no map,
    and `{"args": [..], "kwargs": {..}}` in any other case, also where there are none at all. The shape tells the way back:

    * natural: an object is the map, anything else is the one in the list;
    * value: it is the one in the list, even though it is an object;
    * pair: the members `args` and `kwargs`, those that are not empty;
    * opaque: it stands in the place of the list, which there is none: bytes or text that only its receiver can open.

    It is kept in the form in which it came, and in each other form that somebody asked for. It was looked at when it came,
    so that each of them can be made. What formats lack is said in `nexus_tw.model.serializers`.
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
        """JSON that has been checked before; `invalid_message` where it is no pair, but its shape says so."""
        payload = cls(shape, JSON, None, data, UNSET)
        if shape == "pair":
            payload.arguments(JSON)
        return payload

    @classmethod
    def of_arguments(cls, codec: Codec, args: bytes | Raw | None, kwargs: bytes | Raw | None, depth: int) -> Payload:
        """What a WAMP client sent; `invalid_message` that names `args` or `kwargs` where that is of no use to others.

        So it is where it cannot be decoded, is no list or no map, is nested deeper than `depth`, or holds what other formats
        have no word for.
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

    @property
    def size(self) -> int:
        """Bytes of the form in which it came."""
        if self._data is not None:
            return len(self._data)
        return sum(len(part) for part in self._forms[self._origin.name] if part is not None)

    @property
    def data(self) -> bytes:
        """The one value, as JSON."""
        if self._data is None:
            self._data = self._joined(*self.arguments(JSON))
        return self._data

    @property
    def parameters(self) -> bytes:
        """The one value as JSON, for parameters: where there are no arguments at all, an empty object."""
        return b"{}" if self.shape == "pair" and self.value == {"args": [], "kwargs": {}} else self.data

    @property
    def value(self) -> Any:
        """The one value, decoded from JSON; shared, so nobody may change it."""
        if self._value is UNSET:
            self._value = _decode(self.data)
        return self._value

    def summary(self, name: str) -> str:
        """The error of that name in words: its first argument where that is a text."""
        if self.shape == "opaque":
            return name
        args, _ = self.arguments(JSON)
        listed = JSON.value(args) if args is not None else []
        return f"{name}: {listed[0]}" if listed and type(listed[0]) is str else name

    def arguments(self, codec: Codec) -> Arguments:
        """The list and the map, encoded; None for what is absent. The very bytes that came, if they came in that format.

        Raise `invalid_message` if the server's own, or another program's on the bus, has a form that this format cannot say."""
        form = self._forms.get(codec.name)
        if form is None:
            form = self._forms[codec.name] = self._form(codec)
        return form

    def _form(self, codec: Codec) -> Arguments:
        if codec is self._origin:  # whose form is there from the beginning, unless it is `data` that came
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
"""Of a payload in passthru mode (WAMP): passed on as they came."""


class ApplicationError(NexusError):
    """What a WAMP callee answered instead of a result: an error with a name of its own, and a payload."""

    def __init__(self, uri: str, payload: Payload, message: str, options: Mapping[str, str] | None = None) -> None:
        """`message` says the same to those who do not speak WAMP; `options` are those of a payload in passthru mode."""
        super().__init__(_CODES.get(uri, "failed"), message, uri)
        self.payload = payload
        self.options = options


# How a command ended, where a callee's error says it in WAMP's own words.
_CODES: Final = {
    ERRORS[code].wamp: code for code in ("forbidden", "no_such_command", "cancelled", "timeout", "too_large")
}
