"""What a session knows of the world: the verbs of the core below its words, and the link to its client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Raw

from nexus_tw import messages
from nexus_tw.errors import Close, NexusError
from nexus_tw.interfaces import Fail, Peer
from nexus_tw.policy import Principal


class CallReply(Protocol):
    """Who waits for a command. Two are equal where what one is told need not be told to the other."""

    def progress(self, message: messages.CommandProgress) -> None:
        """The command says how far it is."""

    def result(self, message: messages.CommandResult) -> None:
        """A result: of one of several agents (`agent_id` with a list as target), or the whole."""

    def error(self, error: NexusError, command_id: str) -> None:
        """The command, or the wish for it, ended badly."""


class Verbs(Protocol):
    """The core. Methods that answer later take `ok` and `fail` and call exactly one of them, once; the others raise
    `NexusError`."""

    def subscribe(
        self,
        peer: Peer,
        events: list[str],
        filters: dict[str, Any] | None,
        recover: bool,
        ok: Callable[[], None],
        fail: Fail,
    ) -> None: ...

    def unsubscribe(self, peer: Peer, events: list[str], ok: Callable[[], None]) -> None: ...

    def publish(self, peer: Peer, event_type: str, data: bytes, ok: Callable[[], None], fail: Fail) -> None: ...

    def submit(
        self, peer: Peer, agent_id: str, metrics: Raw, timestamp: str | None, ok: Callable[[int], None], fail: Fail
    ) -> None: ...

    def call(self, peer: Peer, request: messages.Command, reply: CallReply) -> None: ...

    def cancel(self, peer: Peer, command_id: str, reply: CallReply) -> None: ...

    def register(self, peer: Peer, commands: list[str], agent_id: str | None) -> None: ...

    def unregister(self, peer: Peer, commands: list[str]) -> None: ...

    def progress(self, peer: Peer, message: messages.Progress) -> None: ...

    def result(self, peer: Peer, message: messages.Result) -> None: ...

    def gone(self, peer: Peer) -> None: ...


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

    def identified(self, principal: Principal) -> None:
        """The session has found out who the client is: from now on the connection is this subject's in counts and in the
        log, and ends when the principal expires.

        May be called once, after `Session.begin`. Raises `NexusError` where the subject has too many connections.
        """

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

    def broken(self) -> None:
        """`received` raised: tells the client that it was not its fault."""

    def farewell(self, close: Close) -> bytes:
        """Frames to be sent before a deliberate close."""

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
