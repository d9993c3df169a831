"""The form of a sample: one flat object of numbers, booleans and strings by name."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from nexus_tw.model.errors import NexusError, invalid

NAMES: Final = 1024  # metrics in one sample
NAME_LENGTH: Final = 255  # characters; flattening repeats the outer names, so a long one would be multiplied
ALL_NAMES: Final = 65536  # characters of all names in a nested sample, or as many as the sample has bytes

_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Flat: Final = msgspec.json.Decoder(dict[str, _Int64 | float | bool | str])
_SHAPE: Final = "must be a number, a boolean, a string or an object of these"
_RANGE: Final = "numbers must be finite and within 64 bits"


def flatten(sent: bytes, depth: int) -> bytes:
    """Return metrics as one flat JSON object with dotted names: the bytes as sent if nothing is nested.

    Objects may be nested `depth` deep, the outermost included. Raise an `invalid_message` that names the metric.
    """
    try:
        names = _Flat.decode(sent)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _flatten(sent, depth)
    if not names or len(names) > NAMES or "" in names or max(map(len, names)) > NAME_LENGTH:
        return _flatten(sent, depth)
    return sent


def _flatten(sent: bytes, depth: int) -> bytes:
    # The slow path, for nested metrics and for errors. It has its own stack, as `depth` is configurable.
    flat: dict[str, Any] = {}
    levels = [("", iter(_object(sent).items()))]
    nested = False
    room = max(ALL_NAMES, len(sent))
    while levels:
        prefix, items = levels[-1]
        for key, value in items:
            name = prefix + key
            if not key:
                raise _wrong(name, "names must not be empty")
            if len(name) > NAME_LENGTH:
                raise _wrong(name, f"names must not be longer than {NAME_LENGTH} characters")
            if isinstance(value, dict):
                if len(levels) >= depth:
                    raise _wrong(name, f"objects must not be nested more than {depth} deep")
                nested = True
                levels.append((f"{name}.", iter(value.items())))
                break
            if not isinstance(value, int | float | str):
                raise _wrong(name, _SHAPE)
            if isinstance(value, int) and not -(2**63) <= value < 2**64:
                raise _wrong(name, _RANGE)
            if name in flat:
                raise _wrong(name, "is there twice")
            flat[name] = value
            room -= len(name)
            if len(flat) > NAMES:
                raise invalid("metrics", f"more than {NAMES} of them")
            if room < 0:
                raise invalid("metrics", f"names with more than {ALL_NAMES} characters in all, those of outer objects repeated")
        else:
            levels.pop()
    if not flat:
        raise invalid("metrics", "must not be empty")
    return msgspec.json.encode(flat) if nested else sent


def _object(sent: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(sent)
    except msgspec.ValidationError:
        # Without a target type, msgspec validates only the range of numbers.
        raise invalid("metrics", _RANGE) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise invalid("metrics", "is not JSON") from None
    except RecursionError:
        raise invalid("metrics", "nested too deep") from None
    if not isinstance(value, dict):
        raise invalid("metrics", "must be an object")
    return value


def _wrong(name: str, why: str) -> NexusError:
    return invalid(f"metrics.{name[:NAME_LENGTH]}", why)
