"""Sessions: what a transport and a dialect's session know of each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from nexus_tw.interfaces.peers import Peer
from nexus_tw.model.errors import Close
from nexus_tw.model.policy import Principal


class Link(Protocol):
    """The way to the client. Nothing here raises when the client is gone."""

    @property
    def largest(self) -> int:
        """Bytes of the largest message that the client takes, as it said itself (RawSocket); 0: any. A larger one that is
        sent all the same is dropped."""

    def write(self, data: bytes) -> None:
        """Queues frames; they leave at the end of the reactor turn."""

    def push(self, data: bytes) -> None:
        """Sends frames at the end of a turn, behind what `write` queued."""

    def room(self, size: int) -> bool:
        """Whether so many bytes more can wait without being too many; always so if nothing waits."""

    def affords(self, size: int) -> bool:
        """Count what the client is sent again, about `size` bytes, as if it had sent them itself, so that it is read later.
        Return False if so much waits for it already that these would be too many."""

    def identified(self, principal: Principal) -> None:
        """The session has found out who the client is: from now on the connection is this subject's in counts and in the
        log, and ends when the principal expires.

        May be called once, after `Session.begin`. Raises `NexusError` where the subject has too many connections.
        """

    def note(self, text: str) -> None:
        """Put into the log what the client is not told, the first time for each connection."""

    def finish(self, close: Close) -> None:
        """The session has said its last word, to who is leaving: the client is expected to close, and may read first. After a
        while this side does."""

    def probe(self, done: Callable[[], None]) -> None:
        """Find out whether the client is still there, as `nexus_tw.interfaces.plugins.Peer.probe`."""

    def close(self, close: Close) -> None:
        """Says why and closes; a second call does nothing."""


class Session(Protocol):
    """A dialect's side of one connection."""

    @property
    def peer(self) -> Peer | None:
        """The client as somebody to whom messages for everybody are given; None where, or as long as, these are not for it.
        Asked each time."""

    def begin(self) -> None:
        """The connection is open."""

    def received(self, payload: bytes, is_binary: bool) -> None:
        """One whole message, valid UTF-8 if text. May raise anything: the link logs it and calls `broken`."""

    def broken(self, payload: bytes) -> None:
        """`received` raised over this message: tell the client that it was not its fault."""

    def farewell(self, close: Close) -> bytes | None:
        """Return the frames to send before a deliberate close; None if the connection is to be dropped without any goodbye,
        not even that of its carrier."""

    def overran(self) -> None:
        """The client sent a message that is too long, for which the connection is about to be closed."""

    def end(self) -> None:
        """The connection is over."""


class Dialect(Protocol):
    """A language spoken over WebSocket or RawSocket, in frames of that transport: makes sessions."""

    heartbeat: bytes  # frames sent to every connection at each interval
    # Whether its sessions find out by themselves who a client is that showed no token (WAMP's HELLO). Until they have called
    # `Link.identified` the connection is nobody's, and after `limits.auth` it is closed with 1008.
    introduces: bool

    def session(self, link: Link, principal: Principal | None, address: str) -> Session:
        """`principal` is None only where the dialect introduces."""

    def farewell(self, close: Close) -> bytes:
        """Frames to be sent before a connection is closed that never got a session."""
