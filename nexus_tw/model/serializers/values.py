"""Values, once decoded: what they may be made of, and why bytes are none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import cbor2
import msgspec

from nexus_tw.model.serializers.codec import Violation

NO_TEXT: Final = "the keys of a map must be text"

# What the decoders raise (a UnicodeDecodeError is a ValueError); anything else would be a mistake in here.
REFUSALS: Final = (msgspec.MsgspecError, cbor2.CBORDecodeError, ValueError, RecursionError)

_SCALARS: Final = frozenset((type(None), bool, int, float, str, bytes, datetime))
_KEYS: Final = frozenset((str,))
_CBOR_KEY: Final = "map key must be a text string"  # begins what cbor2 says of others


def reason(error: Exception) -> str:
    """Return what one of `REFUSALS` says."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    text = str(error)
    return NO_TEXT if _CBOR_KEY in text else text


def check(value: Any, depth: int) -> None:
    """Raise `Violation` if there is anything in it that values are not made of, or if it is nested deeper."""
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
    """Return the same value with everything in it that is no list and no map as `change` returns it."""
    kind = type(value)
    if kind is dict:
        return {key: replace(item, change) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [replace(item, change) for item in value]
    return change(value)
