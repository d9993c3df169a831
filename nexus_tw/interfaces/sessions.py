"""Sessions: the contract between a transport and the session of a dialect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from nexus_tw.interfaces.peers import Peer
from nexus_tw.model.errors import Close, NexusError
from nexus_tw.model.policy import Principal


class Link(Protocol):
    """A session's interface to its connection. No method raises because the client is gone."""

    @property
    def largest(self) -> int:
        """The largest message in bytes that the client accepts (RawSocket handshake); 0: any. Larger ones are dropped."""

    def write(self, data: bytes) -> None:
        """Queue frames, to be sent at the end of the reactor turn."""

    def push(self, data: bytes) -> None:
        """Send frames at the end of a turn, after those that `write` queued."""

    def room(self, size: int) -> bool:
        """Return whether `size` more bytes fit into the send queue; always True if it is empty."""

    def affords(self, size: int) -> bool:
        """Charge a message that is sent again, of about `size` bytes, to the client's rate, so that reading is delayed.
        Return False if it does not fit into the send queue."""

    def count(self, messages: int) -> None:
        """Charge so many messages to the client's rate, besides the one that is being handled, which stands for them."""

    def identified(self, principal: Principal) -> None:
        """Set the authenticated principal: the connection counts for its subject, is logged with it, and ends when it expires.

        May be called once, after `Session.begin`. Raise `NexusError` if the subject has too many connections.
        """

    def note(self, text: str) -> None:
        """Log a problem that is not reported to the client; only the first one of each connection is logged."""

    def finish(self, close: Close) -> None:
        """End after the session's last message to a client that is leaving: the client is expected to close, and may read
        first. After a while this side closes."""

    def probe(self, done: Callable[[], None]) -> None:
        """Check whether the client still answers, as `nexus_tw.interfaces.peers.Peer.probe`."""

    def close(self, close: Close) -> None:
        """Tell the client the reason and close; a second call does nothing."""


class Answering(Protocol):
    """The answer to a request that opens a one-way stream; one of the methods is called, once."""

    def accept(self) -> None:
        """Grant the request: what the session sends follows."""

    def refuse(self, error: NexusError) -> None:
        """Answer with this error instead, and close."""


class Session(Protocol):
    """A dialect's side of one connection."""

    @property
    def peer(self) -> Peer | None:
        """The client as a recipient of broadcasts; None if, or as long as, it gets none. Read for each broadcast."""

    @property
    def client(self) -> Peer | None:
        """The client as a member of a realm; None as long as it has joined none."""

    def begin(self) -> None:
        """Begin the session: the connection is open."""

    def received(self, payload: bytes, is_binary: bool) -> None:
        """Handle one whole message, valid UTF-8 if text. May raise any exception: the link logs it and calls `broken`."""

    def broken(self, payload: bytes) -> None:
        """Report an internal error to the client: `received` raised an exception for this message."""

    def farewell(self, close: Close) -> bytes | None:
        """Return the frames to send before a deliberate close; None to drop the connection without any farewell, not even the
        transport's close handshake."""

    def overran(self) -> None:
        """Note that the connection is about to be closed because the client sent a message that is too long."""

    def end(self) -> None:
        """End the session: the connection is closed."""


class Dialect(Protocol):
    """A protocol over WebSocket or RawSocket, in frames of that transport. Makes sessions."""

    # Whether its sessions authenticate clients without a token themselves (WAMP's HELLO). Until a session has called
    # `Link.identified`, the connection is unauthenticated; it is closed with 1008 after `limits.auth`.
    introduces: bool

    @property
    def heartbeat(self) -> bytes:
        """The frames to send to a connection at each interval."""

    def session(self, link: Link, principal: Principal | None, address: str) -> Session:
        """Make a session. `principal` is None only if the dialect `introduces`."""

    def farewell(self, close: Close) -> bytes:
        """Return the frames to send before closing a connection that has no session."""
