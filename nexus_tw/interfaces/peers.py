"""Peers: one client as the core sees it, and what it subscribes to, registers and executes."""

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
    """All who subscribe to one pattern on this node; `number` is its id in WAMP."""

    number: int
    pattern: Pattern
    created: int  # ms since the epoch


class Encoding(Protocol):
    """How an event becomes bytes for one kind of peer. Equal encodings give equal bytes, so peers share them."""

    @property
    def key(self) -> Hashable: ...

    @property
    def name(self) -> str:
        """Protocol, serializer and transport, for people."""

    @property
    def once(self) -> bool:
        """Whether a client is told once of an event that matches several of its subscriptions, and not once for each."""

    def event(self, event: Event, subscription: Subscription) -> bytes:
        """A ready frame for an event."""

    def notice(self, notice: Notice) -> bytes:
        """Return a ready frame for a notice; empty if the protocol has no such message."""


class Peer(Protocol):
    """One client as the core sees it: somebody with an identity to whom messages can be given.

    Nothing here raises for a client that is gone: what is given to it then is dropped.
    """

    client_id: str
    number: int  # the session's id in WAMP, whatever the client speaks; unique among all nodes
    principal: Principal
    authmethod: str  # how it showed who it is, and to whom, in WAMP's words
    authprovider: str
    address: str
    # Ready frames, in this turn's order; may be given to a closed peer.
    deliver: Callable[[bytes], None]

    @property
    def encoding(self) -> Encoding:
        """How frames for this peer are made; the same for its whole life."""

    @property
    def streams(self) -> bool:
        """Whether it takes the further parts of a progressive invocation."""

    def invoke(self, invocation: Invocation) -> None:
        """Has it execute something. It answers by the invocation's own methods, or by the verbs of its dialect."""

    def room(self, size: int) -> bool:
        """Whether so many bytes more can be sent to it now without too much waiting for it."""

    def interrupt(self, invocation: Invocation, reason: Reason) -> bool:
        """Nobody waits any more for what it executes, which it is told where its dialect has a word for it; whether it
        answers to that, as it would have answered the invocation."""

    def unsubscribed(self, subscription: Subscription, reason: str) -> None:
        """The server has ended a subscription of this client."""

    def unregistered(self, registration: Registration, reason: str) -> None:
        """The server has ended a registration of this client."""

    def probe(self, done: Callable[[], None]) -> None:
        """Find out now whether the client is still there, and close it if it is not; then call `done`, once."""

    def close(self, close: Close) -> None:
        """Tells the client why (`disconnect`) and closes; a second call does nothing."""


Reason = Literal["cancelled", "timeout"]


class Caller(NamedTuple):
    """Who called: the session's id in WAMP, subject and role."""

    session: int
    authid: str
    authrole: str


class Registration(Protocol):
    """All who execute one procedure, or all of a pattern; `number` is its id in WAMP."""

    number: int
    pattern: Pattern
    created: int  # ms since the epoch
    invoke: str  # WAMP's invocation policy


class Invocation(Protocol):
    """A command or call in an executor's hands (`nexus_tw.interfaces.executors`). Once it is over, all that is said here is
    ignored."""

    number: int  # its id in WAMP; counted for each connection, which sets it
    registration: Registration  # that of the connection, which sets it
    procedure: str  # the name that was called
    payload: Payload  # until the executor has taken it
    caller: Caller
    disclosed: bool  # whether a WAMP callee may be told who calls
    attempt: int
    deadline: float  # s since the epoch
    progressive: bool  # whether the caller wants progress
    more: bool  # whether further parts of the arguments follow
    options: Mapping[str, str] | None  # passed on as they came (WAMP payload passthru mode)

    @property
    def agent_id(self) -> str | None:
        """The agent as which it is executed; None: the server itself."""

    @property
    def over(self) -> bool:
        """Return whether it has ended, or nobody waits for it."""

    @property
    def named(self) -> bool:
        """Return whether it has a command id: that of a command from the beginning, a plain call as soon as one is asked
        for."""

    @property
    def command_id(self) -> str:
        """The id in the JSON protocol; made when it is first asked for."""

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
