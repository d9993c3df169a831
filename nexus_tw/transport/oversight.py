"""The administrators' view of the connections of all nodes: who is connected, and disconnecting one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from heapq import nsmallest
from itertools import islice
from typing import Final, Protocol, cast

import msgspec
from twisted.internet.interfaces import IReactorTime

from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.interfaces.peers import Peer
from nexus_tw.model.errors import DISCONNECTED, NexusError
from nexus_tw.model.times import format_millis
from nexus_tw.runtime.spread import Spread
from nexus_tw.runtime.walltime import wall
from nexus_tw.transport.connections import Connections
from nexus_tw.transport.conversation import Conversation

PART: Final = "connections"
AGENTS: Final = 16  # agent ids that are listed of one connection
STEP: Final = 32  # connections that are looked at in one step


class Connected(msgspec.Struct, rename="camel", gc=False):
    """One connection, as the list shows it."""

    client_id: str
    subject: str
    address: str
    protocol: str
    realm: str
    node: str
    since: str
    agent_ids: list[str]
    subscriptions: int
    queued: int  # bytes


class Listing(msgspec.Struct, tag="list", gc=False):
    """Asks for the first connections by their ids."""

    after: str
    limit: int


class Disconnecting(msgspec.Struct, tag="disconnect", gc=False):
    """Asks to close a connection; the answer is whether it was there."""

    client_id: str


class Membership(Protocol):
    """A realm, as far as a list of connections needs it."""

    name: str

    def holdings(self, peer: Peer) -> tuple[list[str], int] | None:
        """Return the agents that the session represents and the number of its subscriptions; None if it is not a member."""


class Found(msgspec.Struct, gc=False):
    """The connections of nodes, and the nodes that have not answered."""

    connections: list[Connected]
    next: str | None
    missing: list[str]


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Listing | Disconnecting).decode
_connected: Final = msgspec.json.Decoder(list[Connected]).decode


class Oversight:
    """Implements `nexus_tw.interfaces.fleet.Part`; it tells nothing by itself."""

    def __init__(
        self, fleet: Fleet, connections: Connections, realms: Mapping[str, Membership], clock: IReactorTime
    ) -> None:
        self._fleet = fleet
        self._connections = connections
        self._realms = realms
        self._clock = clock
        self._spread = Spread(clock)
        fleet.take_part(PART, self, self.asked)

    def stop(self) -> None:
        """Finish what was begun."""
        self._spread.finish()

    def find(self, after: str, limit: int, done: Callable[[Found], None]) -> None:
        """Call `done` with the connections of all nodes in the order of their ids, from the first one after `after` on."""
        asked = self._nodes()

        def answered(answers: Mapping[str, bytes]) -> None:
            rows = sorted((row for each in answers.values() for row in _connected(each)), key=lambda row: row.client_id)
            following = rows[limit - 1].client_id if len(rows) > limit else None
            done(Found(rows[:limit], following, [node for node in asked if node not in answers]))

        # One more than wanted tells whether there are more.
        self._fleet.ask(None, PART, _encode(Listing(after, limit + 1)), answered)

    def disconnect(self, client_id: str, done: Callable[[NexusError | None], None]) -> None:
        """Close this connection on whatever node. Call `done` with None once its node is closing it, else with the error."""
        if self._close(client_id):
            done(None)
            return
        others = list(self._fleet.members)

        def answered(answers: Mapping[str, bytes]) -> None:
            if any(answer == b"true" for answer in answers.values()):
                done(None)
            elif len(answers) < len(others):
                done(NexusError("bus_unavailable", "Not every node has answered; the connection may be on one of the others"))
            else:
                done(NexusError("not_found", "No such connection"))

        if others:
            self._fleet.ask(others, PART, _encode(Disconnecting(client_id)), answered)
        else:
            answered({})

    # --- Part

    def received(self, node: str, body: bytes) -> None:
        """Do nothing: it is only asked."""

    def asked(self, _node: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        question = _decode(body)
        if isinstance(question, Disconnecting):
            answer(_encode(self._close(question.client_id)))
        else:
            self._spread.work(self._list(question, answer))

    def joined(self, node: str) -> None:
        """Do nothing: other nodes know nothing of this one."""

    def left(self, node: str, heir: bool) -> None:
        """Do nothing: this node knows nothing of others."""

    def fenced(self) -> None:
        """Do nothing: connections stay as they are."""

    def renewed(self) -> None:
        """Do nothing: nothing is on the bus."""

    # ---

    def _nodes(self) -> list[str]:
        return [self._fleet.node, *self._fleet.members]

    def _clients(self) -> Iterator[tuple[Peer, Conversation]]:
        for connection in self._connections:
            conversation = cast(Conversation, connection)
            client = conversation.client
            if client is not None:
                yield client, conversation

    def _close(self, client_id: str) -> bool:
        for client, conversation in self._clients():
            if client.client_id == client_id:
                conversation.close(DISCONNECTED)
                return True
        return False

    def _list(self, question: Listing, answer: Callable[[bytes], None]) -> Iterator[None]:
        first: list[tuple[str, int, Peer, Conversation]] = []
        clients = enumerate(self._clients())  # the numbers tell apart equal ids, which are never compared further
        while some := list(islice(clients, STEP)):
            after = [(peer.client_id, place, peer, one) for place, (peer, one) in some if peer.client_id > question.after]
            first = nsmallest(question.limit, [*first, *after])
            yield
        answer(_encode([self._shown(peer, one) for _, _, peer, one in first]))

    def _shown(self, peer: Peer, conversation: Conversation) -> Connected:
        held = ((name, realm.holdings(peer)) for name, realm in self._realms.items())
        # A client that has just left is listed once more.
        name, (agents, subscriptions) = next(((name, found) for name, found in held if found is not None), ("", ([], 0)))
        since = wall(self._clock) - (self._clock.seconds() - conversation.opened)
        return Connected(
            peer.client_id,
            peer.principal.subject,
            conversation.address,
            peer.encoding.name,
            name,
            self._fleet.node,
            format_millis(int(since * 1000)),
            agents[:AGENTS],
            subscriptions,
            conversation.waiting,
        )
