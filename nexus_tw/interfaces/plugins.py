"""The contracts of plug-ins: buses, stores, authenticators and command handlers.

They may come from an operator's own package (entry point groups `nexus.buses`, `nexus.stores`, `nexus.authenticators`,
`nexus.commands`). The docstrings here are the contracts, and the tests of the built-in implementations can be run against
others. An `Awaitable` may be a Deferred or a coroutine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from nexus_tw.interfaces.ledger import ILedger
    from nexus_tw.model.attendance import Held, Outcome, Sure, Told
    from nexus_tw.model.errors import NexusError
    from nexus_tw.model.names import Pattern
    from nexus_tw.model.policy import Principal
    from nexus_tw.model.positions import Missed, Position


class BusListener(Protocol):
    """Receives events and messages from the bus."""

    def event(self, event_type: str, data: bytes, metadata: bytes, position: Position | None = None) -> None:
        """Receive one event of a subscribed type: exactly one call for it, however many subscriptions match.

        `data` is JSON in UTF-8. `metadata` is what was published with it; b"" if there was none, or if the publisher is no
        Nexus node. `position` is the same on every node; None for an event that is not in the history.
        """

    def message(self, body: bytes) -> None:
        """Receive a message that another node (or this one) sent with `IBus.send`."""

    def lost(self) -> None:
        """The bus is unreachable: events may be missed from now on. Called once for each outage."""

    def restored(self) -> None:
        """The bus is reachable again and every subscription is active. Called once after each `lost`."""


class IBus(Interface):
    """Carries events between nodes. It is the only way by which an event reaches this node's subscribers.

    The order of events of one type is the same for every listener on every node. Delivery is at most once.
    """

    available: bool = Attribute("Whether events can be published now; false from `lost` to `restored`.")
    node: str = Attribute("The name of this node on the bus, unique among all that share it.")
    history: IHistory | None = Attribute(
        "The events of the past; None while the bus keeps none, and then all positions are None. Read it anew each time. A bus "
        "that never keeps any may leave it out: Nexus then sets it to None."
    )

    retained: IRetained | None = Attribute(
        "The retained events; None if the bus keeps none. A bus that never keeps any may leave it out, as it may `history`."
    )
    roll: IRoll | None = Attribute(
        "The roll of the fleet; without one, each node is a fleet of its own. A bus may leave it out, as it may `history`."
    )

    ledger: ILedger | None = Attribute(
        "The ledger of commands (`nexus_tw.interfaces.ledger`), one for all nodes; None if the bus keeps none. Read it anew "
        "each time. A bus that never keeps one may leave it out, as it may `history`."
    )
    attendance: IAttendance | None = Attribute(
        "Which agents are connected, for all nodes; without one, each node tells of its own. A bus may leave it out, as it may "
        "`history`. Read it anew each time."
    )
    claims: IClaims | None = Attribute(
        "Who registers what in the fleet; None if the bus carries no fleet. May be left out, as `history` may."
    )

    def start(listener: BusListener) -> Awaitable[None]:
        """Connect. Fire once connected, or once it is clear that this will take longer (then `available` is false)."""

    def stop() -> Awaitable[None]:
        """Send all accepted events and messages, then disconnect; do not call the listener any more."""

    def publish(
        event_type: str, data: bytes, done: Callable[[Position | NexusError | None], None], metadata: bytes = b""
    ) -> None:
        """Publish JSON `data`.

        Call `done` exactly once: with the event's position once the bus has accepted it (None if it has no position), else
        with `bus_unavailable`. Calls in one reactor turn are sent together. `metadata` is for Nexus nodes only and reaches
        their listeners with the event; other programs on the bus do not see it.
        """

    def subscribe(pattern: Pattern, done: Callable[[], None]) -> None:
        """Subscribe to events of a type or pattern. Never called twice for one pattern without `unsubscribe` in between.

        Call `done` once: when every event published from then on will arrive, or at once while the bus is unreachable.
        """

    def unsubscribe(pattern: Pattern) -> None:
        """End the subscription to the pattern. Events already on their way may still arrive."""

    def send(node: str | None, body: bytes, done: Callable[[int | NexusError], None]) -> None:
        """Send `body` to one node's listener, or if `node` is None to those of all nodes, including this one.

        Call `done` once, with the number of nodes that were reached, or with `bus_unavailable`.
        """


class RetainedEvent(NamedTuple):
    """An event that its publisher asked to retain, as it was published."""

    event_type: str
    data: bytes
    metadata: bytes
    position: Position | None


class IRetained(Interface):
    """The retained events: of each type the last one whose metadata has `retain` (`nexus_tw.model.events.EventMetadata`).
    They are bounded by the bus."""

    def get(pattern: Pattern, done: Callable[[list[RetainedEvent] | NexusError], None]) -> None:
        """Call `done` once, with the retained events of the types that the pattern selects, or with `bus_unavailable`. The
        listener gets every later event of these types after that."""


class IClaims(Interface):
    """The invocation policies of the fleet's registrations, and the nodes with callees: decided once for all nodes.

    Each `done` is called once: with None if it is granted, or with an error; `bus_unavailable` leaves open whether it was
    carried out. What one node asks for is carried out in that order. Asking again for what a node has changes nothing.
    """

    def claim(pattern: Pattern, invoke: str, node: str, done: Callable[[NexusError | None], None]) -> None:
        """Claim the pattern with this invocation policy for a node.

        Refused with `POLICY_CONFLICT` if others have it with another one, with `ALREADY_REGISTERED` if another has it with
        `single`, and with `limit_exceeded` if there are too many patterns.
        """

    def release(pattern: Pattern, node: str, done: Callable[[NexusError | None], None]) -> None:
        """Give up the claim of a node to a pattern, if it has one."""

    def forget(node: str, done: Callable[[NexusError | None], None]) -> None:
        """Give up all claims of a node that is gone."""


class IHistory(Interface):
    """The history: past events by type, within the bounds of `[history]`; the same on every node.

    Every `done` is called exactly once, with `bus_unavailable` while the bus is unreachable. Types without history by their
    bounds are left out of `tops` and `known`; none of their events are recovered.
    """

    def tops(types: Sequence[str], done: Callable[[dict[str, Position] | NexusError], None]) -> None:
        """Pass to `done` the position of each type's last event; offset 0 of a new epoch if there never was one."""

    def known(pattern: Pattern, done: Callable[[dict[str, Position] | NexusError], None]) -> None:
        """Pass to `done` the position of the last event of every type in the history that the pattern selects;
        `limit_exceeded` if there are too many."""

    def read(requests: Sequence[tuple[str, Position]], done: Callable[[list[Missed] | NexusError], None]) -> None:
        """Pass to `done` the events after each of these positions, in the order of the requests. Equal requests of one reactor
        turn are carried out once.

        Offset 0 of another type's epoch means the start of this type for a client that knew the other type at that time:
        recovered only if it is certain that no earlier event of the type is missing.
        """

    def page(
        event_type: str, since: Position | None, limit: int, done: Callable[[Missed | NexusError], None]
    ) -> None:
        """Pass to `done` the first events after `since` (None: the oldest in the history), at most `limit`; `top` is the
        position of the type's last event, even if that is not among them, and `NOWHERE` for a type without history."""


LEFT: Final = -1  # beats of a node that has left the fleet by itself


class Beats(NamedTuple):
    """The roll of a fleet, as a node reads it when it beats."""

    epoch: str  # another one once the bus may have lost what was put on it
    beats: Mapping[str, int]  # by node, its own among them; empty if it was buried
    buried: frozenset[str]  # of the nodes it asked for, and itself, those that were buried
    legacy: Sequence[str]  # buried nodes whose heir it is, until `settle`


class Burial(Enum):
    """What became of the attempt to bury a node."""

    MINE = "mine"  # it is buried, by this attempt
    ANOTHERS = "another's"  # it was buried before
    REFUSED = "refused"  # its beats are others than those observed, or the heir is buried itself


class IRoll(Interface):
    """The roll of a fleet: the beats of its nodes, and who was buried. Nothing in it ever expires by time.

    Nodes have names that are used by one node only, once for ever. Every `done` is called exactly once, with
    `bus_unavailable` if the bus is away; then it is unknown whether it was carried out. The roll carries
    out what it is told in the order of the calls of a node, after what the node has sent and published before.
    """

    def beat(node: str, known: Sequence[str], done: Callable[[Beats | NexusError], None]) -> None:
        """Raise this node's beats by one, from 0 if it is not in the roll, and read the roll; a node that was buried is told
        just that, and one for which there is no room `limit_exceeded`. `known` are the nodes it wants to know of whether they
        were buried."""

    def bury(node: str, beats: int | None, heir: str, done: Callable[[Burial | NexusError], None]) -> None:
        """Remove a node for good if its beats are these: 0 if it is not in the roll, any if None. The heir takes over from it,
        and from every node that it was to inherit from and has not settled."""

    def settle(node: str, heir: str, done: Callable[[NexusError | None], None]) -> None:
        """Strike a buried node out of this heir's legacy."""

    def leave(node: str, done: Callable[[NexusError | None], None]) -> None:
        """Set this node's beats to `LEFT`: the others may bury it at once."""


class IAttendance(Interface):
    """Which agents are connected, to which nodes, and who has registered them; the same for all nodes of a realm.

    The status of an agent changes when a node has its first connection and when no node has any. A step that changes it also
    publishes `agent.status`, with the data that it was given, as one action. Steps of one node are taken in the order of calls.
    Every `done` is called exactly once, with `bus_unavailable` while the bus is unreachable; then nobody knows whether the step
    was taken. Each may be taken again.
    """

    epoch: str = Attribute("Another one once the bus may have lost what it knew: then nodes tell it again.")

    def come(node: str, agent_id: str, sure: Sure, told: Told, done: Callable[[Outcome | NexusError], None]) -> None:
        """Note that a node has connections of an agent. `sure` says what it knows of it if the bus knows nothing."""

    def go(node: str, agent_id: str, sure: Sure, told: Told, done: Callable[[Outcome | NexusError], None]) -> None:
        """Note that a node has no connection of an agent any more."""

    def hold(
        node: str,
        agent_id: str,
        session: int,
        number: int,
        over: int,
        done: Callable[[Held | Outcome | NexusError], None],
    ) -> None:
        """Note that a connection has registered an agent explicitly. With number 0 it replaces one of the same node that has
        done so before, or the one with the session `over` (`ANYBODY`: whichever) on another node; if another one is there,
        nothing changes. With the number of an earlier answer it says so again, and gives way to a later one; with a negative
        number it has done so that many milliseconds ago, and the bus did not know."""

    def free(agent_id: str, session: int) -> None:
        """Note that a connection that has registered an agent is gone."""

    def at(node: str, most: int, done: Callable[[list[str] | NexusError], None]) -> None:
        """Pass to `done` some of the agents of a node, at most `most`; none if it has none."""

    def absent(done: Callable[[dict[str, float] | NexusError], None]) -> None:
        """Pass to `done` the offline agents that are remembered, each with the time (s since the epoch) since when it is."""


class Sample(NamedTuple):
    """One telemetry message: metrics as a flat JSON object (dotted names), time in ms since the epoch."""

    agent_id: str
    timestamp: int
    metrics: bytes


class IStore(Interface):
    """Stores telemetry. Every failure is a `NexusError` `store_unavailable` whose message gives the reason."""

    def start() -> Awaitable[None]:
        """Open the store and migrate its schema. Fail with `ConfigError` if it cannot be used at all."""

    def stop() -> Awaitable[None]:
        """Close the store after the commits in progress."""

    def commit(samples: Sequence[Sample]) -> Awaitable[None]:
        """Store all samples in one transaction, or none. Fire once they would survive a power failure (fsync).

        Not called again before the last call has fired.
        """

    def samples(agent_id: str, since: int, until: int, limit: int) -> Awaitable[list[Sample]]:
        """Return at most `limit` samples of one agent with `since <= timestamp < until` (ms), oldest first."""

    def prune(before: int) -> Awaitable[int]:
        """Remove samples older than `before` (ms), in steps that do not delay commits. Return the number of removed samples."""


class IOnce(Interface):
    """Optional for stores: stores a sample with an id once, however often it is sent. Fails as `IStore` does.

    An id belongs to its agent. It is kept as long as its sample: `prune` removes both.
    """

    def commit_once(samples: Sequence[Sample], ids: Sequence[str | None]) -> Awaitable[Sequence[int]]:
        """Store samples as `IStore.commit` does, one of the two at a time; `ids[n]` is the id of `samples[n]`, or None.

        Leave out a sample whose id is stored for its agent already, or belongs to an earlier sample of that agent in
        `samples`. Return the indexes of those left out.
        """


class Tally(NamedTuple):
    """The bytes of telemetry stored for a holder in the span of time that began at `began` (ms since the epoch)."""

    holder: str
    began: int
    size: int


class ITallies(Interface):
    """Optional for stores: keeps the counts of quotas across restarts. Fails as `IStore` does; `prune` also removes tallies
    that began before its time."""

    def tally(tallies: Sequence[Tally]) -> Awaitable[None]:
        """Add the sizes to those stored for the same holders and times, all or none. A size may be negative."""

    def tallies(since: int, most: int) -> Awaitable[list[Tally]]:
        """Return all tallies that began at `since` (ms) or later, of the `most` holders with the largest totals."""


class IRevoked(Interface):
    """Optional for buses and stores: keeps revocations (`nexus_tw.model.revocations`), each a record under a key. A bus keeps
    them for all nodes. Where it does not, a store keeps them for this node over a restart.

    They fail with `bus_unavailable` or `store_unavailable`. What has been answered survives what published events, or
    acknowledged telemetry, survive.
    """

    def revoke(key: str, record: bytes) -> Awaitable[None]:
        """Keep this record, in place of one under the same key."""

    def unrevoke(keys: Sequence[str]) -> Awaitable[None]:
        """Remove these records; keys without one change nothing."""

    def revoked() -> Awaitable[list[bytes]]:
        """Return all records."""


class Credentials(NamedTuple):
    """A client's credentials: a bearer token, a verified client certificate's common name, or both."""

    token: str | None
    certificate: str | None = None


class IAuthenticator(Interface):
    """Authenticates clients."""

    def authenticate(credentials: Credentials) -> Awaitable[Principal | None] | Principal | None:
        """Return the principal; `Principal(subject, role)` with the name of a configured role suffices.

        Return None if these credentials are not of this authenticator's kind. Raise `NexusError` `unauthorized` if they are,
        but invalid. Compare secrets in constant time and never log them.
        """


class Invoked(Protocol):
    """The argument of a command handler: the command, and the means to report progress."""

    command_id: str
    command: str
    parameters: Any  # decoded JSON
    caller: Principal
    attempt: int

    @property
    def cancelled(self) -> bool:
        """Whether no caller waits for the result any more. A handler in a thread should check it regularly, and return."""

    def progress(self, data: Any) -> None:
        """Send JSON to the caller while the command runs. May be called in a thread, where it blocks while many messages are
        queued. Raise `TypeError` or `ValueError` if `data` is no JSON."""

    def on_cancel(self, callback: Callable[[str], None]) -> None:
        """Call back with `cancelled` or `timeout` once no caller waits for the result any more. The callback runs in the
        reactor's thread and must not block. A Deferred or coroutine that the handler returned is also cancelled."""


Handler = Callable[[Invoked], Any]
"""A command handler: returns a JSON value, or a Deferred or coroutine of one. It raises `NexusError` to choose code and text
of the failure; any other exception becomes `failed` with the exception's text. With `thread = true` it is a plain function
that is executed in a thread and may block."""
