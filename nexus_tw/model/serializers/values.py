"""Decoded values: validation of their types, and the reasons for refusing bytes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import cbor2
import msgspec

from nexus_tw.model.serializers.codec import Violation

NO_TEXT: Final = "the keys of a map must be text"

# Raised by the decoders (a UnicodeDecodeError is a ValueError); any other exception would be a bug here.
REFUSALS: Final = (msgspec.MsgspecError, cbor2.CBORDecodeError, ValueError, RecursionError)

_SCALARS: Final = frozenset((type(None), bool, int, float, str, bytes, datetime))
_KEYS: Final = frozenset((str,))
_CBOR_KEY: Final = "map key must be a text string"  # start of cbor2's message about other keys


def reason(error: Exception) -> str:
    """Return the text of one of `REFUSALS`."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    text = str(error)
    return NO_TEXT if _CBOR_KEY in text else text


def check(value: Any, depth: int) -> None:
    """Raise `Violation` if the value contains an unsupported type or is nested deeper than `depth`."""
    level = [value]
    for left in range(depth, -1, -1):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind in _SCALARS:
                continue
            if kind is not list and kind is not dict:
                raise Violation(f"{kind.__name__} cannot be passed on")
            if left == 0:
                raise Violation(f"nested deeper than {depth}")
            if kind is list:
                below += item
            elif _KEYS.issuperset(map(type, item)):
                below += item.values()
            else:
                raise Violation(NO_TEXT)
        if not below:
            break
        level = below


def replace(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a copy of the value with `change` applied to each item that is neither list nor map."""
    kind = type(value)
    if kind is dict:
        return {key: replace(item, change) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [replace(item, change) for item in value]
    return change(value)
