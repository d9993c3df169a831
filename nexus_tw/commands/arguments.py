"""The arguments of a call, read by name or position, and the answer to it."""

from __future__ import annotations

from typing import Any

import msgspec

from nexus_tw.interfaces.realm import CallReply
from nexus_tw.model.errors import INVALID_URI, invalid
from nexus_tw.model.payloads import Payload
from nexus_tw.model.serializers import JSON
from nexus_tw.protocols.wamp.heads import read
from nexus_tw.protocols.wamp.messages import Id
from nexus_tw.protocols.wamp.uris import is_loose


def values_of(payload: Payload) -> tuple[list[Any], dict[str, Any]]:
    """Return a payload's arguments as values."""
    args, kwargs = payload.arguments(JSON)
    return (JSON.value(args) if args is not None else []), (JSON.value(kwargs) if kwargs is not None else {})


def answer(reply: CallReply, *args: Any, **kwargs: Any) -> None:
    """Reply with these values."""
    data = msgspec.json.encode({"args": args, "kwargs": kwargs})
    reply.result(Payload.of_value(data, "pair"), None)


class Arguments:
    """A call's arguments as values. Errors name the argument that is missing or of the wrong type."""

    def __init__(self, payload: Payload) -> None:
        self._args, self._kwargs = values_of(payload)

    def take(self, place: int | None, name: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
        """Return the argument at that place, or else of that name."""
        if place is not None and place < len(self._args):
            value = self._args[place]
        elif name in self._kwargs:
            value = self._kwargs[name]
        elif default is ...:
            raise invalid(name, "is missing")
        else:
            return default
        if value is None and default is None:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            raise invalid(name, "is of the wrong type")
        return value

    def number(self, place: int | None, name: str) -> int:
        """Return the id at that place, or else of that name: an integer, or a float without a fraction."""
        value = self.take(place, name, object)
        try:
            number: int = read(value, Id)
        except msgspec.ValidationError:
            raise invalid(name, "must be an id, an integer from 1 to 2^53") from None
        return number

    def uri(self, name: str, default: str) -> str:
        """Return the URI of that name. Raise `wamp.error.invalid_uri` if it is invalid."""
        uri = self.take(None, name, object, None)
        if uri is None:
            return default
        if not isinstance(uri, str) or not is_loose(uri):
            raise INVALID_URI.error(f"{name}: not a valid URI")
        return uri

    def texts(self, place: int, name: str) -> list[str] | None:
        value: list[str] | None = self.take(place, name, list, None)
        if value is not None and not all(isinstance(text, str) for text in value):
            raise invalid(name, "must be a list of texts")
        return value
