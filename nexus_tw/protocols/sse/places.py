"""How far a client of an event stream has come: its position in each type, as the `id` of a block.

A browser keeps only the last `id`, so each has the positions of all types. It is opaque to clients: `1&TYPE=POSITION&…`,
percent-encoded as in a query. `0` says that nothing is known, also where the positions would be too long for a header.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import is_name
from nexus_tw.model.positions import Position

LONGEST: Final = 2048  # bytes of an id
UNKNOWN: Final = b"0"

_BEGIN: Final = b"1"
_SAFE: Final = "!$'()*+,;:@/?"  # beside letters, digits and `_.-~`; without `&`, `=`, `%` and what is not ASCII


class Places:
    """The positions of one client."""

    def __init__(self) -> None:
        self._parts: dict[str, bytes] = {}
        self.known = False  # whether a type without position had no event yet

    def move(self, event_type: str, position: Position) -> None:
        """The client has got everything up to this position."""
        self._parts[event_type] = _part(event_type, position)

    @property
    def text(self) -> bytes:
        """The id."""
        if not self._parts and not self.known:
            return UNKNOWN
        text = b"".join((_BEGIN, *self._parts.values()))
        return text if len(text) <= LONGEST else UNKNOWN


def place(event_type: str, position: Position) -> bytes:
    """Return the id of a client of one type."""
    text = _BEGIN + _part(event_type, position)
    return text if len(text) <= LONGEST else UNKNOWN


def read(text: str) -> Mapping[str, str] | None:
    """Return the positions in an id by type; None if nothing is known, or if it is not one of these ids."""
    begin, *parts = text.split("&")
    if begin != _BEGIN.decode() or len(text) > LONGEST:
        return None
    positions: dict[str, str] = {}
    for part in parts:
        event_type, _, position = map(unquote, part.partition("="))
        if not is_name(event_type) or event_type in positions:
            return None
        try:
            Position.parse(position, event_type)
        except NexusError:
            return None
        positions[event_type] = position
    return positions


def _part(event_type: str, position: Position) -> bytes:
    return b"&%b=%b:%d" % (_quoted(event_type), _quoted(position.epoch), position.offset)


@lru_cache(maxsize=4096)
def _quoted(text: str) -> bytes:
    return quote(text, safe=_SAFE).encode("ascii")
