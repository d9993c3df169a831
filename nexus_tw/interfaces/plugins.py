"""The seams: what each part must provide so that another can be put in its place.

Buses, stores, authenticators and command handlers may come from a user's own package (entry point groups
`nexus.buses`, `nexus.stores`, `nexus.authenticators`, `nexus.commands`). Their contracts are the words here, and the
behaviour suites of the built-in ones can be run against them. An `Awaitable` may be a Deferred or a coroutine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from nexus_tw.model.errors import NexusError
    from nexus_tw.model.names import Pattern
    from nexus_tw.model.policy import Principal
    from nexus_tw.model.positions import Missed, Position

















class BusListener(Protocol):
    """Who is told what arrives over the bus."""

    def event(self, event_type: str, data: bytes, metadata: bytes, position: Position | None = None) -> None:
        """One event of a subscribed type: exactly one call for it, however many subscriptions match. `data` is JSON in
        UTF-8, `metadata` what was published with it; b"" where that was nothing, or by somebody who is no Nexus node.
        `position` is the same on every node; None for an event that is not in the history."""

    def message(self, body: bytes) -> None:
        """Something another node (or this one) sent with `IBus.send`."""

    def lost(self) -> None:
        """The bus is away: events may be missed from now on. Called once for each loss."""

    def restored(self) -> None:
        """The bus is back and every subscription stands again. Called once after each `lost`."""


class IBus(Interface):
    """Carries events between nodes, and is the only way by which an event reaches this node's subscribers.

    One order for each event type, the same for every listener on every node. At most once: nothing is repeated.
    """

    available: bool = Attribute("Whether events can be published now; false from `lost` to `restored`.")
    node: str = Attribute("The name of this node on the bus, unique among all that share it.")
    history: IHistory | None = Attribute(
        "The events of the past; None while the bus keeps none, and then all positions are None. Read it anew each time. A bus "
        "that never keeps any may leave it out: Nexus then sets it to None."
    )

    def start(listener: BusListener) -> Awaitable[None]:
        """Connects; fires once connected, or once it is known that this will take longer (then `available` is false)."""

    def stop() -> Awaitable[None]:
        """Sends what was accepted, then disconnects; the listener is not called any more."""

    def publish(
        event_type: str, data: bytes, done: Callable[[Position | NexusError | None], None], metadata: bytes = b""
    ) -> None:
        """Publishes JSON `data`. Calls `done` exactly once: when the bus has taken it with its position, or None where it
        has none, else with `bus_unavailable`. Many calls in one reactor turn travel together. `metadata` is for Nexus nodes
        only and reaches their listeners with the event; others that read the bus do not see it."""

    def subscribe(pattern: Pattern, done: Callable[[], None]) -> None:
        """Makes events of a type or pattern arrive. Never called twice for one pattern without `unsubscribe` between.
        Calls `done` once when every event published from then on will arrive, or at once while the bus is away."""

    def unsubscribe(pattern: Pattern) -> None:
        """Ends that again. Events already on their way may still arrive."""

    def send(node: str | None, body: bytes, done: Callable[[int | NexusError], None]) -> None:
        """Sends to one node's listener, or with None to those of all nodes, this one too. Calls `done` once with the
        number of nodes that were reached, or with `bus_unavailable`."""


class IHistory(Interface):
    """The events of the past, by type, as far as the bounds of `[history]` keep them; the same on every node.

    Every `done` is called exactly once, with `bus_unavailable` while the bus is away. Types that by their bounds have no
    history are left out of `tops` and `known`; nothing of them is recovered.
    """

    def tops(types: Sequence[str], done: Callable[[dict[str, Position] | NexusError], None]) -> None:
        """Give the position of the last event of each type; offset 0 of an epoch that begins now if it never had one."""

    def known(pattern: Pattern, done: Callable[[dict[str, Position] | NexusError], None]) -> None:
        """Give the same for every type that the pattern selects and that the history knows. Too many of them are
        `limit_exceeded`."""

    def read(requests: Sequence[tuple[str, Position]], done: Callable[[list[Missed] | NexusError], None]) -> None:
        """Give what came after each of these positions, in their order. Equal requests of one turn are one.

        Offset 0 of another type's epoch is the beginning of the type for somebody who knew that other type then: recovered
        only if it is certain that no earlier event of the type is missing.
        """

    def page(
        event_type: str, since: Position | None, limit: int, done: Callable[[Missed | NexusError], None]
    ) -> None:
        """Give the first events after `since`, or the oldest that are kept with None, at most `limit`; `top` is the
        position of the type's last event, whether it is among them or not."""


class Sample(NamedTuple):
    """One telemetry message: metrics as a flat JSON object (dotted names), time in ms since the epoch."""

    agent_id: str
    timestamp: int
    metrics: bytes


class IStore(Interface):
    """Keeps telemetry. Every failure is a `NexusError` `store_unavailable` whose message says what happened."""

    def start() -> Awaitable[None]:
        """Opens the store and brings its schema up to date; fails with `ConfigError` where it cannot be used at all."""

    def stop() -> Awaitable[None]:
        """Closes it after the commits under way."""

    def commit(samples: Sequence[Sample]) -> Awaitable[None]:
        """Stores all of them in one transaction, or none. Fires when they would survive a power failure (fsync).
        Not called again before the last call has fired."""

    def samples(agent_id: str, since: int, until: int, limit: int) -> Awaitable[list[Sample]]:
        """Samples of one agent with `since <= timestamp < until` (ms), oldest first."""

    def prune(before: int) -> Awaitable[int]:
        """Removes samples older than that time (ms), in steps that do not hold up commits; how many were removed."""


class Tally(NamedTuple):
    """Bytes of telemetry that were stored for somebody (a text) in a span of time that began then (ms since the epoch)."""

    holder: str
    began: int
    size: int


class ITallies(Interface):
    """What a store may provide besides: it keeps how much was stored for whom, so that quotas outlive a restart. Fails as
    `IStore` does; `prune` also removes what began before that time."""

    def tally(tallies: Sequence[Tally]) -> Awaitable[None]:
        """Adds these to what is kept of the same holders and beginnings, all or none. A size may be negative."""

    def tallies(since: int, most: int) -> Awaitable[list[Tally]]:
        """All that began at that time (ms) or later, of the `most` holders that have most of it."""


class Credentials(NamedTuple):
    """What a client showed of itself: a bearer token, a verified client certificate's common name, or both."""

    token: str | None
    certificate: str | None = None


class IAuthenticator(Interface):
    """Says who a client is."""

    def authenticate(credentials: Credentials) -> Awaitable[Principal | None] | Principal | None:
        """The principal (`Principal(subject, role)` with the name of a configured role suffices), or None where these
        credentials are not this authenticator's; raises `NexusError` `unauthorized` where they are, but must be refused.
        Secrets are compared in constant time and never logged."""


class Invoked(Protocol):
    """What a command handler gets."""

    command_id: str
    command: str
    parameters: Any  # decoded JSON
    caller: Principal
    attempt: int

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more. A handler in a thread looks at it now and then, and returns."""

    def progress(self, data: Any) -> None:
        """Tell the caller something (JSON) while the command runs. May be called in a thread, where it waits while many
        messages are on their way. Raise `TypeError` or `ValueError` if `data` is no JSON."""

    def on_cancel(self, callback: Callable[[str], None]) -> None:
        """Call back with `cancelled` or `timeout` when nobody waits for the result any more: in the reactor's thread, where
        nothing may block. A handler that returned a Deferred or a coroutine is cancelled besides."""


Handler = Callable[[Invoked], Any]
"""A command handler: returns a JSON value, or a Deferred or coroutine of one. Raise `NexusError` to choose code and text
of the failure; any other exception becomes `failed` with the exception's text. With `thread = true` it is a plain function
that is executed in a thread and may block."""
