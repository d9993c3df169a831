"""The parts of this node that work with those of others. What one of them raises is logged and costs the others nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nexus_tw.interfaces.fleet import Asked, Part
from nexus_tw.runtime.guard import Guard

_guarded: Final = Guard(__name__, "A part of the fleet failed")


class Parts:
    """Parts by name, each called in the order in which they were added."""

    def __init__(self) -> None:
        self._parts: dict[str, Part] = {}
        self._asked: dict[str, Asked] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def add(self, name: str, part: Part, asked: Asked | None) -> None:
        assert name not in self._parts, name
        self._parts[name] = part
        if asked is not None:
            self._asked[name] = asked

    def answers(self, name: str) -> bool:
        """Return whether the part of this name answers questions."""
        return name in self._asked

    def received(self, name: str, node: str, body: bytes) -> None:
        _guarded(self._parts[name].received, node, body)

    def asked(self, name: str, node: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        _guarded(self._asked[name], node, body, answer)

    def joined(self, node: str) -> None:
        for part in self._parts.values():
            _guarded(part.joined, node)

    def left(self, node: str, heir: bool) -> None:
        for part in self._parts.values():
            _guarded(part.left, node, heir)

    def fenced(self) -> None:
        for part in self._parts.values():
            _guarded(part.fenced)

    def renewed(self) -> None:
        for part in self._parts.values():
            _guarded(part.renewed)
