"""What a session knows of the world: the verbs of the core below its words, and the link to its client."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from msgspec import Raw

from nexus_tw.interfaces.peers import Fail, Invocation, Peer, Registration, Subscription
from nexus_tw.model.commands import CommandAnswer, CommandProgress, CommandRequest, CommandResult
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import EventMetadata
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import Options, Payload
from nexus_tw.model.policy import Action, Principal


class CallReply(Protocol):
    """Who waits for a call: progress as often as there is some, then exactly one of the others."""

    def progress(self, payload: Payload, options: Options) -> None: ...

    def result(self, payload: Payload, options: Options) -> None: ...

    def error(self, error: NexusError) -> None: ...


class CallRequest(NamedTuple):
    """What is called, and how."""

    procedure: str
    payload: Payload
    timeout: float  # s; 0 for the server's own
    progressive: bool  # whether progress is wanted
    more: bool  # whether further parts of the arguments follow
    disclose: bool  # whether the callee may be told who calls
    options: Options


class AuthorizeRequest(NamedTuple):
    """An action that a WAMP client wants to take."""

    action: Action
    uri: str
    pattern: Pattern | None = None  # what `uri` stands for; None for an exact name
    payload: Payload | None = None  # held until the request is decided


Authorize = Callable[[Peer, AuthorizeRequest, Callable[[Principal], None], Fail], None]
"""`Verbs.authorize`."""


class SubscribeRequest(NamedTuple):
    """What is subscribed to, and how."""

    patterns: Sequence[str | Pattern]  # a text is a pattern as clients of the JSON protocol write it, not checked yet
    filters: dict[str, Any] | None = None
    since: Mapping[str, str] | None = None  # where to go on, by event type; None if nothing is to be recovered


class SubscribeReply(NamedTuple):
    """Called for the answer to a `SubscribeRequest`: one of them, once."""

    ok: Callable[[], None]  # every event from now on will come, none has come yet
    fail: Fail


CancelMode = Literal["skip", "kill", "killnowait"]


class OpenCall(Protocol):
    """A call that was taken."""

    def further(self, payload: Payload, more: bool) -> None:
        """A further part of the arguments (WAMP: progressive call invocations); the last one where `more` is false."""

    def cancel(self, mode: CancelMode) -> None:
        """The caller wants no result any more; `kill` waits for what the callee says to that."""

    def abandon(self) -> None:
        """The caller is gone."""


class CommandReply(Protocol):
    """Receives a command's replies. Equal instances are duplicates; only one of them needs the answer."""

    def affords(self, size: int) -> bool:
        """Count an answer of about so many bytes, given before, as if the client had sent them. Return False if it cannot be
        given now, as too much that the client was sent waits to be read."""

    def progress(self, progress: CommandProgress) -> None:
        """The executor reports progress."""

    def result(self, result: CommandResult) -> None:
        """The final result, or the outcome of one of several targets before it."""

    def error(self, error: NexusError, command_id: str) -> None:
        """The command failed, or was refused."""


class Verbs(Protocol):
    """The core: what a session can do in one realm. Methods that answer later take `ok` and `fail` and call exactly one of
    them, once; the others raise `NexusError`. `rights` is who must be allowed to do it (see `authorize`)."""

    name: str
    strict: bool  # whether URIs of WAMP clients must be strict ones
    waiting: Container[Peer]  # those who asked for what has not taken effect yet; what else they ask for goes through `queue`
    discloses: bool  # whether subscribers are told who published, also where the publisher did not ask for it

    def join(self, peer: Peer) -> None:
        """A session begins. Nothing else is done for a peer before, or after `gone`."""

    def overran(self, peer: Peer) -> None:
        """It is about to end because the client sent a message that is too long: perhaps a result."""

    def gone(self, peer: Peer) -> None:
        """It has ended. A second call does nothing."""

    def queue(self, peer: Peer, size: int, act: Callable[[], None]) -> None:
        """Call `act` once everything that the peer asked for before has taken effect, or when the peer is gone.

        `size` is that of the message in bytes. Raise `rate_limited` if too many messages of this peer wait.
        """

    def authorize(
        self, peer: Peer, request: AuthorizeRequest, allowed: Callable[[Principal], None], denied: Fail
    ) -> None:
        """Decide whether the client may do this; `allowed` gets the `rights` to do it with. Without an authorizer in the
        realm these are the peer's own.

        The answers are given in the order of the peer's requests; see `queue`.
        """

    def subscribe(self, peer: Peer, rights: Principal, request: SubscribeRequest, reply: SubscribeReply) -> None:
        """Add to what the peer subscribes to, all or nothing. Nothing that it asks for later overtakes this."""

    def unsubscribe(self, peer: Peer, events: list[str], ok: Callable[[], None]) -> None: ...

    def subscription(self, pattern: Pattern) -> Subscription:
        """What is subscribed to under a pattern that somebody here subscribes to."""

    def subscribed(self, peer: Peer, number: int) -> Pattern | None:
        """The pattern of the peer's subscription with that id."""

    def publish(
        self,
        rights: Principal,
        event_type: str,
        payload: Payload,
        ok: Callable[[], None],
        fail: Fail,
        metadata: EventMetadata | None = None,
    ) -> None: ...

    def check_publish(self, rights: Principal, event_type: str, member: str) -> None:
        """Raise if this may not be published, without publishing; `member` of the request holds the event type."""

    def broadcast(self, rights: Principal, data: bytes, ok: Callable[[int], None], fail: Fail) -> None:
        """Send JSON to every session on every node, for an administrator; `ok` gets the number of recipients."""

    def lost(self, event_type: str) -> None:
        """An event was lost and its publisher is not told: have its subscribers told (`continuity`)."""

    def submit(
        self, peer: Peer, agent_id: str, metrics: Raw, timestamp: str | None, ok: Callable[[int], None], fail: Fail
    ) -> None: ...

    def command(self, peer: Peer, request: CommandRequest, reply: CommandReply) -> None: ...

    def cancel(self, peer: Peer, command_id: str, reply: CommandReply) -> None: ...

    def call(self, peer: Peer, rights: Principal, request: CallRequest, reply: CallReply) -> OpenCall: ...

    def register(self, peer: Peer, commands: list[str], agent_id: str | None) -> None: ...

    def register_procedure(
        self, peer: Peer, rights: Principal, pattern: Pattern, invoke: str, agent_id: str | None
    ) -> Registration: ...

    def make_way(self, peer: Peer, pattern: Pattern, agent_id: str | None, act: Callable[[], None]) -> None:
        """Call `act` once it is known whether another connection of the peer's subject that has registered this pattern is
        still there; if it is not, it is closed before. What else the peer asks for waits for that.

        Call it at once if that connection holds `agent_id`, as it is replaced then, whether it is there or not."""

    def registered(self, peer: Peer, number: int) -> Pattern | None:
        """The pattern of the peer's registration with that id."""

    def unregister(self, peer: Peer, commands: list[str]) -> None: ...

    def multi_agent(self, peer: Peer) -> bool:
        """Whether the peer executes commands as more than one agent."""

    def invocation(self, peer: Peer, number: int) -> Invocation | None:
        """What the peer is executing under that id; None for what is over."""

    def progress(self, peer: Peer, progress: CommandProgress) -> None: ...

    def result(self, peer: Peer, answer: CommandAnswer) -> None: ...

