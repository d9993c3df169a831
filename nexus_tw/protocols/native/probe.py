"""Extracts from a malformed message its type, and the members that an error echoes."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from nexus_tw.model.commands import NULL
from nexus_tw.protocols.native.messages import LONGEST_ID, Id


class Probe(msgspec.Struct, rename="camel"):
    """The members of any message that an error needs."""

    type: msgspec.Raw = NULL
    id: msgspec.Raw = NULL
    command_id: msgspec.Raw = NULL

    def answered(self, of_commands: frozenset[str]) -> tuple[Any, Id, str | None]:
        """Return the type, and the `id` and `commandId` that the error echoes, each if it is valid.

        Messages of the types `of_commands` have a `commandId`.
        """
        kind, id_, command_id = _value(self.type), _value(self.id), _value(self.command_id)
        named = type(kind) is str and kind in of_commands and type(command_id) is str
        return kind, id_ if _is_id(id_) else None, command_id if named and 0 < len(command_id) <= LONGEST_ID else None


probe: Final = msgspec.json.Decoder(Probe).decode
_any: Final = msgspec.json.Decoder().decode


def _value(raw: msgspec.Raw) -> Any:
    """Return the member's value; None if it cannot be decoded (a number out of range, for example)."""
    try:
        return _any(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _is_id(value: Any) -> bool:
    return type(value) is str or (type(value) is int and -(2**63) <= value < 2**63)
