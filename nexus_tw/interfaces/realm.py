"""The core's interface for sessions: the verbs of a realm, with their requests and replies."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from msgspec import Raw, Struct

from nexus_tw.interfaces.peers import Fail, Invocation, Peer, Registration, Subscription
from nexus_tw.model.commands import CommandAnswer, CommandRequest, CommandState, ProgressReport, ResultReport
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import Event, EventMetadata, Recipient
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import Options, Payload
from nexus_tw.model.policy import Action, Principal
from nexus_tw.model.positions import Position


class CallReply(Protocol):
    """Receives a call's replies: any number of `progress`, then exactly one `result` or `error`."""

    def progress(self, payload: Payload, options: Options) -> None: ...

    def result(self, payload: Payload, options: Options) -> None: ...

    def error(self, error: NexusError) -> None: ...


class CallRequest(NamedTuple):
    """A call: procedure, arguments and options."""

    procedure: str
    payload: Payload
    timeout: float  # seconds; 0: the server's default
    progressive: bool  # whether progress is wanted
    more: bool  # whether further parts of the arguments follow
    disclose: bool  # whether the callee may learn who the caller is
    options: Options


class AuthorizeRequest(Struct, frozen=True, gc=False):
    """An action that a WAMP client wants to take. A struct, as one is made for each request: a tuple costs five times more."""

    action: Action
    uri: str
    pattern: Pattern | None = None  # the pattern for `uri`; None for an exact name
    payload: Payload | None = None  # held until the request is decided


Authorize = Callable[[Peer, AuthorizeRequest, Callable[[Principal], None], Fail], None]
"""`Verbs.authorize`."""


class SubscribeRequest(NamedTuple):
    """A request to subscribe: patterns, filters, and the positions to recover from."""

    patterns: Sequence[str | Pattern]  # text is in the syntax of the JSON protocol, not validated yet
    filters: dict[str, Any] | None = None
    since: Mapping[str, str] | None = None  # the last known position by event type; None: recover nothing


class Placed(NamedTuple):
    """Where a subscriber begins in the history of the types that it subscribes to."""

    positions: Mapping[str, Position] | None = None  # None where there is no history, or nobody can tell now
    recovered: dict[str, bool] | None = None  # whether all that was missed will follow; None if nothing is to be recovered


class SubscribeReply(NamedTuple):
    """The callbacks for the answer to a `SubscribeRequest`: one of them is called, once."""

    ok: Callable[[Placed], None]  # called before the first event; every event after these positions is delivered
    fail: Fail


class SubmittedSample(NamedTuple):
    """One of several samples of a message: `timestamp` is ISO 8601, `metrics` JSON; with an `id` it is stored once."""

    timestamp: str
    metrics: Raw
    id: str | None = None


class HistoryRequest(NamedTuple):
    """A request for past events of one type, oldest first."""

    event_type: str
    since: Position | None  # None: from the oldest event in the history
    limit: int


class PastEvent(NamedTuple):
    """An event of the history, and when it was published (ms since the epoch)."""

    event: Event
    millis: int


class HistoryPage(NamedTuple):
    """Past events, oldest first.

    `position` is where the page ends: given as `since`, it continues there. If `recovered` is false, events after `since` are
    gone: the page has none, and ends at the type's last event.
    """

    events: Sequence[PastEvent]
    position: Position
    recovered: bool


CancelMode = Literal["skip", "kill", "killnowait"]


class OpenCall(Protocol):
    """An accepted call that has not ended."""

    def further(self, payload: Payload, more: bool) -> None:
        """Pass on a further part of the arguments (WAMP: progressive call invocations), the last one unless `more`."""

    def cancel(self, mode: CancelMode) -> None:
        """Cancel the call; with `kill`, the callee's answer to that is the result (WAMP: call canceling)."""

    def abandon(self) -> None:
        """Give up the call, since the caller is gone."""


class CommandReply(Protocol):
    """Receives a command's replies. Equal instances are duplicates; only one of them needs the answer."""

    def affords(self, size: int) -> bool:
        """Charge an answer that is sent again, of about `size` bytes, to the client's rate. Return False if it cannot be sent
        now because too much is waiting in the client's send queue."""

    def progress(self, progress: ProgressReport) -> None:
        """Report the executor's progress."""

    def result(self, result: ResultReport) -> None:
        """Report the final result, or before it the outcome of one of several targets."""

    def error(self, error: NexusError, command_id: str) -> None:
        """Report that the command failed or was refused."""


class Verbs(Protocol):
    """The core's operations for sessions in one realm.

    Methods that answer later take `ok` and `fail` and call exactly one of them, once; the others raise `NexusError`. `rights`
    is the principal whose grants are checked (see `authorize`).
    """

    name: str
    strict: bool  # whether URIs of WAMP clients must obey the strict rule
    waiting: Container[Peer]  # peers with a request that has not taken effect yet; their further requests go through `queue`
    discloses: bool  # whether subscribers always learn who published, even if the publisher did not ask for it

    @property
    def remembers(self) -> bool:
        """Whether the past of event types is kept now."""

    @property
    def retains(self) -> bool:
        """Whether events can be retained."""

    def join(self, peer: Peer) -> None:
        """Add a session. No other method is called for a peer before this, or after `gone`."""

    def overran(self, peer: Peer) -> None:
        """Note that the session is about to end because the client sent a message that is too long, perhaps a result."""

    def gone(self, peer: Peer) -> None:
        """Remove a session that has ended. A second call does nothing."""

    def queue(self, peer: Peer, size: int, act: Callable[[], None]) -> None:
        """Call `act` once all earlier requests of the peer have taken effect, or when the peer is gone.

        `size` is that of the message in bytes. Raise `rate_limited` if too many messages of this peer are queued.
        """

    def authorize(
        self, peer: Peer, request: AuthorizeRequest, allowed: Callable[[Principal], None], denied: Fail
    ) -> None:
        """Decide whether the client may do this; `allowed` gets the `rights` to do it with. Without an authorizer in the
        realm these are the peer's own.

        The answers are given in the order of the peer's requests; see `queue`.
        """

    def subscribe(self, peer: Peer, rights: Principal, request: SubscribeRequest, reply: SubscribeReply) -> None:
        """Subscribe the peer, to all patterns or none. No later request of the peer takes effect before this one."""

    def unsubscribe(self, peer: Peer, events: list[str], ok: Callable[[], None]) -> None: ...

    def subscription(self, pattern: Pattern) -> Subscription:
        """Return the subscription of a pattern that has subscribers on this node."""

    def subscribed(self, peer: Peer, number: int) -> Pattern | None:
        """Return the pattern of the peer's subscription with that id; None if there is none."""

    def publish(
        self,
        rights: Principal,
        event_type: str,
        payload: Payload,
        ok: Callable[[Position | None], None],
        fail: Fail,
        metadata: EventMetadata | None = None,
    ) -> None: ...

    def check_publish(self, rights: Principal, event_type: str, member: str) -> None:
        """Raise `NexusError` if this may not be published, without publishing; the error text names `member`."""

    def broadcast(self, rights: Principal, data: bytes, ok: Callable[[int], None], fail: Fail) -> None:
        """Send JSON to every session on every node, for an administrator; `ok` gets the number of recipients."""

    def lost(self, event_type: str) -> None:
        """Tell all subscribers of this type that an event was lost (`continuity`); for events without acknowledgement."""

    def retained(
        self, reader: Recipient, pattern: Pattern, placed: Placed, done: Callable[[Sequence[Event]], None]
    ) -> None:
        """Call `done` with the retained events of the types that the pattern selects, for a reader whose subscription began at
        `placed`; without those that it may not receive. While the bus is unreachable there are none."""

    def history(
        self, reader: Recipient, rights: Principal, request: HistoryRequest, ok: Callable[[HistoryPage], None], fail: Fail
    ) -> None:
        """Read past events of a type, without those that `reader` may not receive. `fail` gets `HISTORY_UNAVAILABLE` if no
        history of the type is kept, `bus_unavailable` while the bus is away."""

    def submit(
        self, peer: Peer, agent_id: str, metrics: Raw, timestamp: str | None, ok: Callable[[int], None], fail: Fail
    ) -> bool:
        """Submit a sample. Return whether it was accepted; then `ok` is called once it is on the disk."""

    def submit_batch(
        self,
        peer: Peer,
        agent_id: str,
        samples: Sequence[SubmittedSample],
        done: Callable[[int, int], None],
        fail: Fail,
    ) -> bool:
        """Submit several samples, all or none. Return whether they were accepted. `done` is called once they are on the disk,
        with the number of those stored and of those whose id had been stored before."""

    def command(self, peer: Peer, request: CommandRequest, reply: CommandReply) -> None: ...

    def cancel(self, peer: Peer, command_id: str, reply: CommandReply) -> None: ...

    def cancel_for(self, principal: Principal, command_id: str, reply: CommandReply) -> None:
        """Cancel a command for a client that has no session; see `cancel`."""

    def command_state(
        self, principal: Principal, command_id: str, done: Callable[[CommandState | NexusError], None]
    ) -> None:
        """Pass to `done` the state of a command of the principal's, for an administrator of any; `not_found`, `forbidden`."""

    def command_trail(
        self, principal: Principal, command_id: str, done: Callable[[list[tuple[int, bytes]] | NexusError], None]
    ) -> None:
        """Pass to `done` the audit trail of a command, for an administrator: times (ms) and JSON."""

    def call(self, peer: Peer, rights: Principal, request: CallRequest, reply: CallReply) -> OpenCall: ...

    def register(
        self, peer: Peer, commands: list[str], agent_id: str | None, ok: Callable[[], None], fail: Fail
    ) -> None:
        """Register commands, all or none. No later request of the peer takes effect before this one."""

    def register_procedure(
        self,
        peer: Peer,
        rights: Principal,
        pattern: Pattern,
        invoke: str,
        agent_id: str | None,
        ok: Callable[[Registration], None],
        fail: Fail,
    ) -> None:
        """Register a procedure, or all of a pattern. No later request of the peer takes effect before this one."""

    def make_way(self, peer: Peer, pattern: Pattern, agent_id: str | None, act: Callable[[], None]) -> None:
        """Check whether another connection of the peer's subject that has registered this pattern still answers, close it if
        not, then call `act`. Further requests of the peer are queued meanwhile.

        Call `act` at once if that connection holds `agent_id`: it is replaced in any case.
        """

    def registered(self, peer: Peer, number: int) -> Pattern | None:
        """Return the pattern of the peer's registration with that id; None if there is none."""

    def unregister(self, peer: Peer, commands: list[str]) -> None: ...

    def multi_agent(self, peer: Peer) -> bool:
        """Return whether the peer executes commands for more than one agent."""

    def invocation(self, peer: Peer, number: int) -> Invocation | None:
        """Return the peer's open invocation with that id; None if it is over."""

    def progress(self, peer: Peer, progress: ProgressReport) -> None: ...

    def result(self, peer: Peer, answer: CommandAnswer) -> None: ...

