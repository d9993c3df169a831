"""The roster: who has joined a realm on this node, by the session's id."""

from __future__ import annotations

from collections.abc import Iterator

from nexus_tw.interfaces import Peer


class Roster:
    """All sessions of one realm on this node, the longest there first."""

    def __init__(self) -> None:
        self._peers: dict[int, Peer] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(tuple(self._peers.values()))

    def add(self, peer: Peer) -> None:
        self._peers[peer.number] = peer

    def remove(self, peer: Peer) -> bool:
        """Whether it was there."""
        return self._peers.pop(peer.number, None) is not None

    def get(self, number: int) -> Peer | None:
        return self._peers.get(number)
