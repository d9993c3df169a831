"""The claims of a fleet inside one process, and `IClaims` of a node on the memory bus: answers at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from zope.interface import implementer

from nexus_tw.bus.bounds import MAX_CLAIMS
from nexus_tw.bus.memory_history import away
from nexus_tw.interfaces.plugins import IClaims
from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import Pattern
from nexus_tw.model.registering import refusal, too_many

SINGLE: Final = "single"


class Claims:
    """Invocation policy and nodes by the text of the pattern; the same rules as in `nexus_tw/bus/redis/scripts`."""

    def __init__(self, most: int = MAX_CLAIMS) -> None:
        self._most = most
        self.clear()

    def clear(self) -> None:
        """Forget everything, as a bus does that loses its data."""
        self._policies: dict[str, str] = {}
        self._nodes: dict[str, set[str]] = {}
        self._texts: dict[str, set[str]] = {}  # by node

    def claim(self, pattern: Pattern, invoke: str, node: str) -> NexusError | None:
        text = pattern.text
        there = self._nodes.get(text)
        if there is None:
            if len(self._nodes) >= self._most:
                return too_many(self._most)
            there = self._nodes[text] = set()
        elif there != {node}:
            policy = self._policies[text]
            if policy != invoke or policy == SINGLE:
                return refusal(pattern, policy, invoke)
        there.add(node)
        self._policies[text] = invoke
        self._texts.setdefault(node, set()).add(text)
        return None

    def release(self, text: str, node: str) -> None:
        there = self._nodes.get(text, set())
        if node not in there:
            return
        there.discard(node)
        texts = self._texts[node]
        texts.discard(text)
        if not texts:
            del self._texts[node]
        if not there:
            del self._nodes[text]
            del self._policies[text]

    def forget(self, node: str) -> None:
        for text in list(self._texts.get(node, ())):
            self.release(text, node)


@implementer(IClaims)
class MemoryClaims:
    """A node's access to the claims."""

    def __init__(self, claims: Claims, available: Callable[[], bool]) -> None:
        self._claims = claims
        self._available = available

    def claim(self, pattern: Pattern, invoke: str, node: str, done: Callable[[NexusError | None], None]) -> None:
        done(self._claims.claim(pattern, invoke, node) if self._available() else away())

    def release(self, pattern: Pattern, node: str, done: Callable[[NexusError | None], None]) -> None:
        if not self._available():
            done(away())
            return
        self._claims.release(pattern.text, node)
        done(None)

    def forget(self, node: str, done: Callable[[NexusError | None], None]) -> None:
        if not self._available():
            done(away())
            return
        self._claims.forget(node)
        done(None)
