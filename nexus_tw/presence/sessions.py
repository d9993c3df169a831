"""The roster: the sessions that have joined a realm on this node, by session id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nexus_tw.interfaces.peers import Peer


class Roster:
    """All sessions of one realm on this node, oldest first."""

    def __init__(self) -> None:
        self._peers: dict[int, Peer] = {}
        self._roles: dict[str, dict[int, Peer]] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(tuple(self._peers.values()))

    def add(self, peer: Peer) -> None:
        self._peers[peer.number] = peer
        self._roles.setdefault(peer.principal.role, {})[peer.number] = peer

    def remove(self, peer: Peer) -> bool:
        """Remove a session. Return whether it was in the roster."""
        if self._peers.pop(peer.number, None) is None:
            return False
        same = self._roles[peer.principal.role]
        del same[peer.number]
        if not same:
            del self._roles[peer.principal.role]
        return True

    def count(self, roles: Iterable[str] | None) -> int:
        """Return the number of sessions with one of these roles; None: with any role."""
        return len(self._peers) if roles is None else sum(len(self._roles.get(role, ())) for role in frozenset(roles))

    def numbers(self, roles: Iterable[str] | None) -> list[int]:
        """Return the ids of sessions with one of these roles (None: any); within a role, oldest first."""
        if roles is None:
            return list(self._peers)
        return [number for role in dict.fromkeys(roles) for number in self._roles.get(role, ())]

    def get(self, number: int) -> Peer | None:
        return self._peers.get(number)
