"""Peers: the core's view of a client, of its subscriptions and registrations, and of the invocations that it executes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from nexus_tw.model.errors import Close, NexusError
    from nexus_tw.model.events import Event
    from nexus_tw.model.names import Pattern
    from nexus_tw.model.notices import Notice
    from nexus_tw.model.payloads import Payload
    from nexus_tw.model.policy import Principal


Fail = Callable[["NexusError"], None]


class Subscription(Protocol):
    """The subscription of this node's clients to one pattern; `number` is its id in WAMP."""

    number: int
    pattern: Pattern
    created: int  # ms since the epoch


class Encoding(Protocol):
    """Encodes events as bytes for one kind of peer. Encodings with equal `key` give equal bytes, which peers share."""

    @property
    def key(self) -> Hashable: ...

    @property
    def name(self) -> str:
        """Protocol, serializer and transport, in a readable form."""

    @property
    def once(self) -> bool:
        """Whether a client gets an event once even if it matches several of its subscriptions; otherwise once for each."""

    def event(self, event: Event, subscription: Subscription) -> bytes:
        """Return a ready frame for an event; empty if this encoding cannot represent it."""

    def notice(self, notice: Notice) -> bytes:
        """Return a ready frame for a notice; empty if the protocol has no such message."""


class Peer(Protocol):
    """The core's view of one client: an identity, and the means to send it messages.

    No method raises for a client that is gone: messages to it are dropped.
    """

    client_id: str
    number: int  # session id (WAMP, for clients of all protocols); unique among all nodes
    principal: Principal
    authmethod: str  # how and by which provider it was authenticated, in WAMP's terms
    authprovider: str
    address: str
    # Send ready frames, in the order of calls; may be called for a closed peer.
    deliver: Callable[[bytes], None]

    @property
    def encoding(self) -> Encoding:
        """The encoding of frames for this peer; it never changes."""

    @property
    def streams(self) -> bool:
        """Whether the client accepts further parts of arguments (WAMP: progressive call invocations)."""

    @property
    def answers(self) -> bool:
        """Whether the client gives a final answer when it is interrupted."""

    def invoke(self, invocation: Invocation) -> None:
        """Have the client execute an invocation. It answers by the invocation's methods, or by the verbs of its dialect."""

    def room(self, size: int) -> bool:
        """Return whether `size` more bytes fit into the client's send queue."""

    def interrupt(self, invocation: Invocation, reason: Reason) -> bool:
        """Ask the client to stop executing, if its dialect has a message for that. Return True if a final answer will still
        come."""

    def unsubscribed(self, subscription: Subscription, reason: str) -> None:
        """Tell the client that the server has ended one of its subscriptions."""

    def unregistered(self, registration: Registration, reason: str) -> None:
        """Tell the client that the server has ended one of its registrations."""

    def probe(self, done: Callable[[], None]) -> None:
        """Check whether the client still answers, and close the connection if not; then call `done`, once."""

    def close(self, close: Close) -> None:
        """Tell the client the reason (`disconnect`) and close the connection; a second call does nothing."""


Reason = Literal["cancelled", "timeout"]


class Caller(NamedTuple):
    """The caller: its session id in WAMP, subject and role."""

    session: int
    authid: str
    authrole: str


class Registration(Protocol):
    """The registration of one procedure, or of a pattern of them, by its callees; `number` is its id in WAMP."""

    number: int
    pattern: Pattern
    created: int  # ms since the epoch
    invoke: str  # WAMP's invocation policy


class Invocation(Protocol):
    """A command or call that an executor carries out (`nexus_tw.interfaces.executors`). Once it is over, its methods do
    nothing."""

    number: int  # its id in WAMP; counted for each connection, which sets it
    registration: Registration  # that of the connection, which sets it
    procedure: str  # the name that was called
    payload: Payload  # until the executor has accepted it
    caller: Caller
    disclosed: bool  # whether a WAMP callee may learn who the caller is
    attempt: int
    deadline: float  # s since the epoch, by the time of day
    progressive: bool  # whether the caller wants progress
    more: bool  # whether further parts of the arguments follow
    options: Mapping[str, str] | None  # passed on unchanged (WAMP payload passthru mode)

    @property
    def agent_id(self) -> str | None:
        """The agent that executes it; None: the server itself."""

    @property
    def over(self) -> bool:
        """Whether it has ended, or no caller waits for it any more."""

    @property
    def named(self) -> bool:
        """Whether it has a command id: a command has one from the start, a plain call once `command_id` has been read."""

    @property
    def command_id(self) -> str:
        """The id in the JSON protocol; for a plain call, created when it is first read."""

    def progress(self, payload: Payload, options: Mapping[str, str] | None = None) -> None:
        """Report progress."""

    def result(self, payload: Payload, options: Mapping[str, str] | None = None) -> None:
        """End it: this is the result."""

    def error(self, error: NexusError) -> None:
        """End it: it failed."""

    def lost(self) -> None:
        """End it: the executor is gone."""

    def overran(self, alone: bool) -> None:
        """End it: the executor is gone because of a message that was too long, perhaps the answer. `alone`: it was executing
        nothing else."""
