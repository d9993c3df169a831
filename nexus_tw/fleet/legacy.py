"""What this node takes over from nodes that are gone, until every part has done so."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class Legacy:
    """Nodes whose heir this one is, each with the number of those who still take over from it."""

    def __init__(self, settle: Callable[[str], None]) -> None:
        """`settle` tells the bus that nothing is left to take over from a node."""
        self._settle = settle
        self._takers: dict[str, set[object]] = {}

    def __contains__(self, node: str) -> bool:
        return node in self._takers

    def inherit(self, node: str, take_over: Callable[[], None]) -> None:
        """Call `take_over`, in which parts may `hold` the node."""
        self._takers[node] = set()
        release = self.hold(node)
        take_over()
        release()

    def hold(self, node: str) -> Callable[[], None]:
        """Keep the node until the returned function is called."""
        takers, taker = self._takers.get(node), object()
        if takers is None:
            return _nothing
        takers.add(taker)

        def release() -> None:
            if taker in takers:
                takers.discard(taker)
                if not takers and self._takers.get(node) is takers:
                    self._settle(node)

        return release

    def compare(self, legacy: Sequence[str]) -> list[str]:
        """Compare with what the bus says is to be inherited; return what is new. What was settled in vain is settled again."""
        for node in [node for node, takers in self._takers.items() if not takers]:
            if node in legacy:
                self._settle(node)
            else:
                del self._takers[node]
        return [node for node in legacy if node not in self._takers]

    def clear(self) -> None:
        """Another node is the heir of all."""
        self._takers = {}


def _nothing() -> None:
    pass
