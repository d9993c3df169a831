"""Callees: connected peers as executors."""

from __future__ import annotations

from collections.abc import Callable

from nexus_tw.commands.invocations import HANDED_ON, Invocations
from nexus_tw.interfaces.peers import Invocation, Peer, Reason, Registration
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import Principal


class PeerExecutor:
    """A connection in one registration, representing one agent; implements `nexus_tw.interfaces.executors.Executor`.

    A gateway's connection represents several agents, each with an executor of its own.
    """

    __slots__ = ("_invocations", "agent_id", "order", "peer", "place", "registration")

    local = False
    interruptible = True

    def __init__(self, invocations: Invocations, peer: Peer, agent_id: str, registration: Registration) -> None:
        self._invocations = invocations
        self.peer = peer
        self.agent_id = agent_id
        self.registration = registration
        # Among all callees of the fleet: by when it registered first, for the policies, and last, for its agent.
        self.place = self.order = 0

    @property
    def session(self) -> int:
        """The session id of the connection."""
        return self.peer.number

    @property
    def identity(self) -> str:
        """The identity of the connection."""
        return self.peer.principal.identity

    @property
    def streams(self) -> bool:
        return self.peer.streams

    def room(self, size: int) -> bool:
        return self.peer.room(size)

    def start(self, invocation: Invocation, _principal: Principal | None) -> None:
        invocation.registration = self.registration
        self._invocations.start(self.peer, invocation)

    def further(self, invocation: Invocation, payload: Payload, more: bool) -> None:
        invocation.payload = payload
        invocation.more = more
        self.peer.invoke(invocation)
        invocation.payload = HANDED_ON

    def interrupt(self, invocation: Invocation, reason: Reason) -> bool:
        return self.peer.interrupt(invocation, reason)

    def named(self, invocation: Invocation) -> None:
        self._invocations.name(self.peer, invocation)

    def release(self, invocation: Invocation) -> None:
        self._invocations.remove(self.peer, invocation)

    def probe(self, done: Callable[[], None]) -> None:
        """Check whether the client still answers; see `Peer.probe`."""
        self.peer.probe(done)
