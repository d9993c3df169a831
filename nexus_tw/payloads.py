"""JSON that is passed on or kept: decoded once to be sure of it, and no deeper than its readers can be expected to follow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from nexus_tw.errors import invalid

_decode: Final = msgspec.json.Decoder().decode


def decode(raw: bytes | msgspec.Raw, member: str, depth: int) -> Any:
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
