"""Recording fakes: a peer, a caller, and the announcer of events."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import count
from typing import Any, TypeVar

import msgspec

from nexus_tw.commands.invocations import CallersHalf
from nexus_tw.interfaces.peers import Caller, Encoding, Invocation, Peer, Reason, Registration, Subscription
from nexus_tw.interfaces.realm import CallReply, CommandReply
from nexus_tw.model.commands import ProgressReport, ResultReport
from nexus_tw.model.errors import Close, NexusError
from nexus_tw.model.events import Event
from nexus_tw.model.notices import Notice
from nexus_tw.model.payloads import Options, Payload
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.model.settings import Role
from nexus_tw.model.times import format_millis
from nexus_tw.protocols.native import messages
from nexus_tw.protocols.native.commands import result_message
from nexus_tw.protocols.native.encoding import JSON_TEXT
from nexus_tw.protocols.native.messages import ServerMessage

M = TypeVar("M", bound=ServerMessage)
_numbers = count(1)


def principal(subject: str = "somebody", role: Role = ADMIN) -> Principal:
    """Return a principal with all rights, unless a role is given."""
    return Principal(subject, "test", role)


class RecordingEncoding:
    """Makes frames that a test can read: events are `TYPE DATA`, other messages are JSON. Equal keys give equal bytes."""

    once = True

    def __init__(self, key: Hashable = "recording") -> None:
        self.key = key
        self.name = str(key)

    def event(self, event: Event, _subscription: Subscription) -> bytes:
        return b"%b %b\n" % (event.type.encode(), event.payload.data)

    def notice(self, notice: Notice) -> bytes:
        return b"{%b\n" % JSON_TEXT.notice(notice).partition(b"{")[2]


class RecordingEachEncoding(RecordingEncoding):
    """Encodes an event once for each subscription, like WAMP: `SUBSCRIPTION TYPE DATA`; it has no other messages.

    An event whose data is `UNSAYABLE` has no frame.
    """

    UNSAYABLE = b'"unsayable"'

    once = False

    def __init__(self, key: Hashable = "recording each") -> None:
        super().__init__(key)

    def event(self, event: Event, subscription: Subscription) -> bytes:
        if event.payload.data == self.UNSAYABLE:
            return b""
        return b"%d %b" % (subscription.number, super().event(event, subscription))

    def notice(self, _notice: Notice) -> bytes:
        return b""


class RecordingPeer:
    """A client that accepts everything: `sent` are messages, `delivered` frames, `closed` the reasons for closing.

    Its invocations are in `invocations`, and in `sent` in the form of the JSON protocol. `ended` has the subscriptions and
    registrations that the server ended, with the reasons.
    """

    authmethod = "ticket"
    authprovider = "test"
    streams = False
    answers = False  # whether it says something to being interrupted

    def __init__(
        self,
        client_id: str | None = None,
        who: Principal | None = None,
        address: str = "127.0.0.1",
        encoding: Encoding | None = None,
    ) -> None:
        self.number = next(_numbers)
        self.client_id = client_id or f"client-{self.number}"
        self.principal = who or principal()
        self.address = address
        self.encoding = encoding or RecordingEncoding()
        self.multi_agent: Callable[[Peer], bool] = lambda _peer: False
        self.sent: list[ServerMessage] = []
        self.invocations: list[Invocation] = []
        self.payloads: list[Payload] = []  # of these, which do not hold them once they were handed over
        self.interrupted: list[tuple[Invocation, Reason]] = []
        self.delivered: list[bytes] = []
        self.ended: list[tuple[str, str]] = []
        self.left = 1 << 30  # bytes that it has room for
        self.closed: list[Close] = []
        self.probes: list[Callable[[], None]] = []
        self.deliver: Callable[[bytes], None] = self.delivered.append

    def invoke(self, invocation: Invocation) -> None:
        self.invocations.append(invocation)
        self.payloads.append(invocation.payload)
        self.sent.append(
            messages.CommandInvocation(
                command_id=invocation.command_id,
                command=invocation.procedure,
                parameters=msgspec.Raw(invocation.payload.parameters),
                caller=invocation.caller.authid,
                deadline=format_millis(int(invocation.deadline * 1000)),
                attempt=invocation.attempt,
                agent_id=invocation.agent_id if self.multi_agent(self) else None,
            )
        )

    def room(self, size: int) -> bool:
        return size <= self.left

    def interrupt(self, invocation: Invocation, reason: Reason) -> bool:
        self.interrupted.append((invocation, reason))
        self.sent.append(messages.CommandCancel(command_id=invocation.command_id, reason=reason))
        return self.answers

    def unsubscribed(self, subscription: Subscription, reason: str) -> None:
        self.ended.append((subscription.pattern.text, reason))

    def unregistered(self, registration: Registration, reason: str) -> None:
        self.ended.append((registration.pattern.text, reason))

    def probe(self, done: Callable[[], None]) -> None:
        self.probes.append(done)

    def close(self, close: Close) -> None:
        if not self.closed:
            self.closed.append(close)

    def got(self, kind: type[M]) -> list[M]:
        """Return the received messages of this type."""
        return [message for message in self.sent if isinstance(message, kind)]

    def __repr__(self) -> str:
        return f"RecordingPeer({self.client_id!r})"


def caller(peer: Peer) -> Caller:
    """The peer as a caller."""
    return Caller(peer.number, peer.principal.subject, peer.principal.role)


class RecordingReply:
    """A command's caller: `results` and `errors` are the final replies, `progressed` all replies before them."""

    def __init__(self) -> None:
        self.progressed: list[ProgressReport] = []
        self.values: list[ResultReport] = []
        self.results: list[messages.CommandResult] = []  # these, as the JSON protocol says them
        self.errors: list[NexusError] = []
        self.command_ids: list[str] = []  # of the errors
        self.charged = 0  # bytes of what it was told again
        self.rich = True  # whether it can take them

    def affords(self, size: int) -> bool:
        self.charged += size
        return self.rich

    def progress(self, progress: ProgressReport) -> None:
        self.progressed.append(progress)

    def result(self, result: ResultReport) -> None:
        self.values.append(result)
        self.results.append(result_message(result))

    def error(self, error: NexusError, command_id: str) -> None:
        self.errors.append(error)
        self.command_ids.append(command_id)

    @property
    def ends(self) -> int:
        """The number of final replies."""
        return len(self.errors) + sum(result.agent_id is None for result in self.results)

    @property
    def answer(self) -> Any:
        """The JSON of the only result."""
        (result,) = self.results
        assert not self.errors
        return msgspec.json.decode(msgspec.json.encode(result))

    @property
    def code(self) -> str:
        """The code of the only error."""
        (error,) = self.errors
        assert not self.results
        return error.code


class RecordingHalf:
    """A caller's half (`CallersHalf`): records all calls in order, with payloads as JSON."""

    retried = False

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def progressed(self, payload: Payload, _options: Options) -> None:
        self.heard.append(("progressed", payload.data))

    def completed(self, payload: Payload, _options: Options) -> None:
        self.heard.append(("completed", payload.data))

    def failed(self, error: NexusError) -> None:
        self.heard.append(("failed", error.code))

    def lost(self) -> None:
        self.heard.append("lost")

    def overran(self, alone: bool) -> None:
        self.heard.append(("overran", alone))

    def returned(self, payload: Payload, busy: bool) -> None:
        self.heard.append(("returned", payload.data, busy))


class RecordingCallReply:
    """A procedure's caller: `told` has all replies in order, with payloads as JSON."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def progress(self, payload: Payload, _options: Options) -> None:
        self.told.append(("progress", payload.data))

    def result(self, payload: Payload, _options: Options) -> None:
        self.told.append(("result", payload.data))

    def error(self, error: NexusError) -> None:
        self.told.append(("error", error.code))


class RecordingAnnouncer:
    """Records the events of the server itself: pairs of type and decoded data, and their accounts."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.accounts: list[str] = []

    def __call__(self, event_type: str, data: bytes, account: str) -> None:
        self.events.append((event_type, msgspec.json.decode(data)))
        self.accounts.append(account)

    def of(self, event_type: str) -> list[Any]:
        return [data for kind, data in self.events if kind == event_type]


def _keep_their_shape(
    peer: RecordingPeer,
    encoding: RecordingEncoding,
    command: RecordingReply,
    half: RecordingHalf,
    call: RecordingCallReply,
) -> tuple[Peer, Encoding, CommandReply, CallersHalf, CallReply]:
    """Never called: lets the type checker verify that the fakes implement their interfaces."""
    return peer, encoding, command, half, call
