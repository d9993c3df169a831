"""Facts: what is known of single agents, and which of them a query asks for, in which order."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest, nsmallest
from typing import Final, Literal

import msgspec

from nexus_tw.model.names import Pattern

SORTS: Final = ("agentId", "since", "status")

Sort = Literal["agentId", "since", "status"]
Status = Literal["online", "offline"]


class Facts(msgspec.Struct, gc=False):
    """What a node says of one of its agents, or what is known of one that is offline."""

    agent_id: str
    status: Status
    since: int  # ms since the epoch
    node: str | None = None
    address: str | None = None  # None: it has no connection at present
    explicit: bool = False  # whether a connection has registered this id
    commands: list[str] = []
    heard: int | None = None  # when its last telemetry was accepted, in ms since the epoch

    def merged(self, other: Facts) -> Facts:
        """Return the facts of an agent that is on two nodes. It is reached at the one where it has registered its id, else at
        the one where it has connections, else at the first."""
        mine, theirs = ((each.explicit, each.address is not None, -each.since) for each in (self, other))
        best = self if mine >= theirs else other
        return msgspec.structs.replace(
            best,
            since=min(self.since, other.since),
            commands=sorted({*self.commands, *other.commands}),
            heard=max(self.heard or 0, other.heard or 0) or None,
        )


class Query(msgspec.Struct, tag="query", gc=False):
    """Which agents are asked for."""

    read: list[str]  # texts of patterns, one of which must match the id
    text: str = ""  # a part of the id, or a pattern if it has a star
    status: Status | None = None
    sort: Sort = "agentId"
    backwards: bool = False
    after: str = ""  # the key after which the page begins; empty: the first page
    limit: int = 100


class Choice:
    """Applies a query. Agents are in the order of their keys: what the query sorts by, a space, which no id has, and the id."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._read = None if "**" in query.read else [Pattern.of_text(text) for text in query.read]
        self._pattern = Pattern.of_text(query.text) if "*" in query.text else None

    def takes(self, agent_id: str) -> bool:
        """Return whether the query asks for this agent."""
        if self._pattern is None:
            found = self._query.text in agent_id
        else:
            found = self._pattern.matches(agent_id)
        return found and (self._read is None or any(pattern.matches(agent_id) for pattern in self._read))

    def key(self, agent_id: str, status: Status, since: int) -> str:
        """Return the agent's key."""
        sort = self._query.sort
        return f"{'' if sort == 'agentId' else status if sort == 'status' else f'{since:015}'} {agent_id}"

    def follows(self, key: str) -> bool:
        """Return whether the key comes after the former page."""
        after = self._query.after
        return not after or (key < after if self._query.backwards else key > after)

    def first(self, keys: Iterable[str], count: int) -> list[str]:
        """Return the first of these keys, at most `count`, in their order."""
        return (nlargest if self._query.backwards else nsmallest)(count, keys)


def agent_of(key: str) -> str:
    """Return the agent's id."""
    return key.partition(" ")[2]
