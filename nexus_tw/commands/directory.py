"""The directory: tells the other nodes of the fleet the registrations of this node's connections, and learns theirs.

What changes in a reactor turn is told in one batch. A node that joins is told all. What arrives is learned in steps over turns,
as thousands of agents may come online at once; until it is learned, the callee gets no calls from this node.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from twisted.logger import Logger

from nexus_tw.commands import mail
from nexus_tw.commands.callees import PeerExecutor
from nexus_tw.commands.mail import Added, Dropped
from nexus_tw.commands.registry import Registry
from nexus_tw.commands.remotes import RemoteExecutor, Remotes
from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.interfaces.peers import Peer
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.runtime.spread import Spread

PART: Final = "registrations"
BATCH: Final = 256  # changes in one message
STEP: Final = 4  # changes that are learned in one step
MOST: Final = 1_000_000  # callees of other nodes that are known; each takes about 800 bytes

_texts: Final = msgspec.msgpack.Decoder(list[str]).decode

Wake = Callable[[Sequence[Pattern], str], None]
"""Hands over what waits for these patterns, of this agent."""


class Directory:
    """Tells and learns registrations; part of the fleet."""

    _log = Logger()

    def __init__(
        self,
        fleet: Fleet,
        end_of_turn: Callable[[Callable[[], None]], None],
        spread: Spread,
        registry: Registry,
        remotes: Remotes,
        metrics: Metrics,
        wake: Wake,
    ) -> None:
        """`end_of_turn` calls its argument at the end of the reactor turn."""
        self._fleet = fleet
        self._end_of_turn = end_of_turn
        self._spread = spread
        self._registry = registry
        self._remotes = remotes
        self._metrics = metrics
        self._wake = wake
        self._node = fleet.node
        self._changes: list[Added | Dropped] = []  # of this turn
        self._arrived: dict[str, deque[bytes]] = {}  # batches that are not learned yet, by node
        self._complained = False
        self._counted = 0  # callees that are counted in the metrics

    # --- of this node

    def added(self, peer: Peer, callees: Iterable[PeerExecutor]) -> None:
        """A connection has registered, as these callees."""
        if self._fleet.members:
            for added in _told(peer, callees):
                self._change(added)

    def dropped(self, peer: Peer, texts: list[str] | None) -> None:
        """A connection has left these patterns; None: all."""
        if self._fleet.members or self._changes:  # also if the last other node has left in this turn
            self._change(Dropped(peer.number, texts))

    def ask(self, node: str, session: int, done: Callable[[Iterable[str]], None]) -> None:
        """Pass to `done` the patterns that a connection of another node has registered, as text. They are those that this one
        has learned if the other one is silent, or is gone."""

        def answered(answers: Mapping[str, bytes]) -> None:
            try:
                texts = _texts(answers[node]) if node in answers else None
            except mail.Undecodable:
                self._complain(node)
                texts = None
            done(self._registry.learned(node, session) if texts is None else texts)

        if self._fleet.silent(node):
            answered({})
        else:
            self._fleet.ask([node], PART, mail.encode(session), answered)

    def _change(self, change: Added | Dropped) -> None:
        if not self._changes:
            self._end_of_turn(self._tell)
        self._changes.append(change)

    def _tell(self) -> None:
        changes, self._changes = self._changes, []
        for piece in mail.in_pieces(changes, BATCH):
            self._fleet.tell(None, PART, mail.encode(piece))

    # --- Part

    def received(self, node: str, body: bytes) -> None:
        arrived = self._arrived.get(node)
        if arrived is not None:
            arrived.append(body)
            return
        arrived = self._arrived[node] = deque((body,))
        self._spread.work(self._learn(node, arrived))

    def asked(self, node: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        """What a connection has registered."""
        try:
            peer = self._registry.session(mail.session(body))
        except mail.Undecodable:
            self._complain(node)
            answer(b"")
            return
        answer(mail.encode([] if peer is None else sorted({text for text, _ in self._registry.held(peer)})))

    def joined(self, node: str) -> None:
        registry = self._registry
        known = [added for peer in registry.peers() for added in _told(peer, registry.held(peer).values())]
        for piece in mail.in_pieces(known, BATCH):
            self._fleet.tell(node, PART, mail.encode(piece))

    def left(self, node: str, _heir: bool) -> None:
        self._arrived.pop(node, None)
        self._registry.left(node)
        self._count()

    def fenced(self) -> None:
        """Do nothing: callees of other nodes may still answer, and are lost if this node is given up."""

    def renewed(self) -> None:
        if self._fleet.node == self._node:
            return
        self._node = self._fleet.node
        # The others tell all again, to the new name.
        for node in self._registry.nodes():
            self.left(node, False)
        self._arrived.clear()

    # --- of other nodes

    def _learn(self, node: str, arrived: deque[bytes]) -> Iterator[None]:
        while arrived:
            try:
                changes = mail.batch(arrived.popleft())
            except mail.Undecodable:
                self._complain(node)
                continue
            for piece in mail.in_pieces(changes, STEP):
                if self._arrived.get(node) is not arrived:
                    return  # it has left
                for change in piece:
                    if type(change) is Added:
                        self._add(node, change)
                    elif type(change) is Dropped:
                        self._registry.unlearn(node, change.session, change.patterns)
                self._count()
                yield
        if self._arrived.get(node) is arrived:
            del self._arrived[node]

    def _add(self, node: str, added: Added) -> None:
        patterns = [Pattern.of_text(text) for text in added.patterns]
        if self._registry.remote + len(patterns) > MOST:
            self._metrics.registrations_unknown += len(patterns)
            return
        for pattern in patterns:
            callee = RemoteExecutor(self._remotes, node, added.session, added.agent_id)
            callee.identity = added.identity
            callee.streams, callee.answers = added.streams, added.answers
            callee.place, callee.order = added.place, added.order
            self._registry.learn(callee, pattern, added.invoke, added.created)
        self._wake(patterns, added.agent_id)

    def _count(self) -> None:
        # Other realms count here, too.
        self._metrics.registrations_remote += self._registry.remote - self._counted
        self._counted = self._registry.remote

    def _complain(self, node: str) -> None:
        if not self._complained:
            self._complained = True
            self._log.warn("Registrations of {node} cannot be decoded; this is said once", node=node)


def _told(peer: Peer, callees: Iterable[PeerExecutor]) -> Iterator[Added]:
    """Yield what the other nodes are told of a connection's callees, with those together that registered together."""
    groups: dict[tuple[str, int, int, int, str], list[str]] = {}
    for callee in callees:
        registration = callee.registration
        group = (callee.agent_id, callee.place, callee.order, registration.created, registration.invoke)
        groups.setdefault(group, []).append(registration.pattern.text)
    for group, texts in groups.items():
        yield Added(peer.number, peer.principal.identity, peer.streams, peer.answers, *group, texts)
