"""The JSON dialect: translates messages of `nexus_tw.protocols.native.messages` to verbs, and their answers to messages.

An invalid message neither closes the connection (too many do) nor affects other clients.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec

from nexus_tw.interfaces.peers import Encoding, Invocation, Reason, Registration, Subscription
from nexus_tw.interfaces.realm import Placed, SubscribeReply, SubscribeRequest, Verbs
from nexus_tw.interfaces.sessions import Link
from nexus_tw.model import events
from nexus_tw.model.commands import ProgressReport, ResultReport
from nexus_tw.model.errors import TOO_MANY_ERRORS, UNSUPPORTED, Close, NexusError, invalid, misshapen
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import Principal
from nexus_tw.model.positions import Position
from nexus_tw.model.settings import Heartbeat, Limits
from nexus_tw.model.times import Timestamps, format_millis
from nexus_tw.protocols.native import messages
from nexus_tw.protocols.native.commands import answer_of, progress_message, progress_of, request_of, result_message
from nexus_tw.protocols.native.encoding import JSON_TEXT, JsonText
from nexus_tw.protocols.native.probe import probe
from nexus_tw.protocols.native.returning import Returning
from nexus_tw.protocols.native.telemetry import metrics_of, take

WELCOME: Final = "Connected to Nexus API WebSocket"
NOT_TEXT: Final = Close(1003, "Text frames only", False)
ERROR_WINDOW: Final = 60.0  # seconds, for limits.errors

_decode: Final = msgspec.json.Decoder(
    messages.Subscribe
    | messages.Unsubscribe
    | messages.Ping
    | messages.Pong
    | messages.Publish
    | messages.Telemetry
    | messages.Command
    | messages.Cancel
    | messages.Register
    | messages.Unregister
    | messages.Progress
    | messages.Result
).decode


_skip: Final = msgspec.json.Decoder(msgspec.Raw).decode


class JsonDialect:
    """Makes JSON sessions, and holds their shared state."""

    encoding: JsonText = JSON_TEXT
    introduces = False

    def __init__(
        self,
        verbs: Verbs,
        heartbeat: Heartbeat,
        limits: Limits,
        metrics: Metrics,
        now: Callable[[], float],
        new_id: Callable[[], str],
        delay: Callable[[], int],
    ) -> None:
        """`now` returns seconds since the epoch, `new_id` a unique id for a connection, `delay` that of `connected` (ms)."""
        self.verbs = verbs
        self.metrics = metrics
        self.now = now
        self.limits = limits
        self.depth = limits.depth
        self._new_id = new_id
        self._heartbeat = messages.HeartbeatTimes(heartbeat.interval, heartbeat.timeout)
        self._timestamps = Timestamps()
        self._ack = (-1, b"")
        self._returning = Returning(delay, heartbeat.interval, now)

    @property
    def heartbeat(self) -> bytes:
        return self._returning.ping

    def session(self, link: Link, principal: Principal | None, address: str) -> JsonSession:
        assert principal is not None
        return JsonSession(self, link, principal, address, f"client-{self._new_id()}")

    def farewell(self, close: Close) -> bytes:
        return self.encoding.message(
            messages.Disconnect(code=close.code, reason=close.reason, reconnect=close.reconnect, delay=close.delay)
        )

    def timestamp(self) -> str:
        return self._timestamps.text(self.now())

    def connected(self, client_id: str, principal: Principal) -> messages.Connected:
        limits = self.limits
        return messages.Connected(
            client_id=client_id,
            timestamp=self.timestamp(),
            message=WELCOME,
            heartbeat=self._heartbeat,
            limits=messages.ConnectionLimits(limits.message, limits.subscriptions, limits.registrations, limits.rate),
            user=messages.User(principal.subject, principal.role),
            reconnect=messages.Reconnect(self._returning.delay),
        )

    def telemetry_ack(self) -> bytes:
        """Return the acknowledgement for a message without `id`; the same bytes for all within a millisecond."""
        millis = int(self.now() * 1000)
        known, frame = self._ack
        if known != millis:
            frame = self.encoding.message(messages.TelemetryAck(timestamp=self.timestamp()))
            self._ack = (millis, frame)
        return frame


class JsonSession:
    """The session of one client of the JSON protocol; for the core it is a `Peer`."""

    __slots__ = ("_dialect", "_errors", "_errors_since", "_link", "address", "client_id", "deliver", "number", "principal")

    authmethod = authprovider = "token"
    streams = False
    answers = False

    def __init__(self, dialect: JsonDialect, link: Link, principal: Principal, address: str, client_id: str) -> None:
        self._dialect = dialect
        self._link = link
        self._errors = 0
        self._errors_since = 0.0
        self.principal = principal
        self.address = address
        self.client_id = client_id
        self.number = events.new_session_id()
        self.deliver: Callable[[bytes], None] = link.push

    # --- Peer

    @property
    def encoding(self) -> Encoding:
        return self._dialect.encoding

    def invoke(self, invocation: Invocation) -> None:
        if invocation.options is not None:
            invocation.error(UNSUPPORTED.error(f"the executor of {invocation.procedure} cannot open an encrypted payload"))
            return
        self.send(
            messages.CommandInvocation(
                command_id=invocation.command_id,
                command=invocation.procedure,
                parameters=msgspec.Raw(invocation.payload.parameters),
                caller=invocation.caller.authid,
                deadline=format_millis(int(invocation.deadline * 1000)),
                attempt=invocation.attempt,
                agent_id=invocation.agent_id if self._dialect.verbs.multi_agent(self) else None,
            )
        )

    def room(self, size: int) -> bool:
        return self._link.room(size)

    def interrupt(self, invocation: Invocation, reason: Reason) -> bool:
        self.send(messages.CommandCancel(command_id=invocation.command_id, reason=reason))
        return False

    def unsubscribed(self, subscription: Subscription, _reason: str) -> None:
        self.send(messages.Unsubscribed(events=[subscription.pattern.text], timestamp=self._dialect.timestamp()))

    def unregistered(self, registration: Registration, _reason: str) -> None:
        self.send(messages.Unregistered(commands=[registration.pattern.text], timestamp=self._dialect.timestamp()))

    def probe(self, done: Callable[[], None]) -> None:
        self._link.probe(done)

    def close(self, close: Close) -> None:
        self._link.close(close)

    # --- Session

    def send(self, message: messages.ServerMessage) -> None:
        self._link.write(self._dialect.encoding.message(message))

    @property
    def peer(self) -> JsonSession:
        return self

    client = peer

    def begin(self) -> None:
        self._dialect.verbs.join(self)
        self.send(self._dialect.connected(self.client_id, self.principal))

    def farewell(self, close: Close) -> bytes:
        return self._dialect.farewell(close)

    def overran(self) -> None:
        self._dialect.verbs.overran(self)

    def end(self) -> None:
        self._dialect.verbs.gone(self)

    def received(self, payload: bytes, is_binary: bool) -> None:
        if is_binary:
            self._link.close(NOT_TEXT)
            return
        try:
            message = _decode(payload)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            self._misunderstood(payload, error)
            return
        if self in self._dialect.verbs.waiting and type(message) not in _AT_ONCE:
            self._queue(message, payload)
            return
        try:
            _HANDLERS[type(message)](self, message)
        except NexusError as error:
            self._refuse(message, error)

    def _queue(self, message: messages.ClientMessage, payload: bytes) -> None:
        """Queue a message until all earlier ones have taken effect."""

        def handle() -> None:
            try:
                _HANDLERS[type(message)](self, message)
            except NexusError as error:
                self._refuse(message, error)
            except Exception:
                self.broken(payload)
                raise

        try:
            self._dialect.verbs.queue(self, len(payload), handle)
        except NexusError as error:
            self._refuse(message, error)

    def _refuse(self, message: messages.ClientMessage, error: NexusError) -> None:
        self.fail(error, message.id, getattr(message, "command_id", None))

    def broken(self, payload: bytes) -> None:
        id_ = command_id = None
        with suppress(msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            _, id_, command_id = probe(payload).answered(_OF_COMMANDS)
        self.fail(NexusError("internal", "Something went wrong in the server"), id_, command_id)

    def fail(self, error: NexusError, id_: messages.Id = None, command_id: str | None = None) -> None:
        """Send an error to the client; close the connection after too many invalid messages."""
        dialect = self._dialect
        dialect.metrics.errors[error.code] += 1
        self.send(
            messages.Error(
                message=error.message,
                timestamp=dialect.timestamp(),
                code=error.code,
                retryable=error.kind.retryable,
                id=id_,
                command_id=command_id,
            )
        )
        if error.code in ("invalid_json", "invalid_message", "unknown_type"):
            self._count_error()

    def _count_error(self) -> None:
        now = self._dialect.now()
        if not 0 <= now - self._errors_since < ERROR_WINDOW:
            self._errors_since = now
            self._errors = 0
        self._errors += 1
        if 0 < self._dialect.limits.errors < self._errors:
            self._link.close(TOO_MANY_ERRORS)

    def _misunderstood(self, payload: bytes, error: Exception) -> None:
        """Send the error for a message that could not be decoded, with its `id` and `commandId` if it has any."""
        try:
            _skip(payload)  # whether it is JSON at all: the first error found may be a lesser one
            found = probe(payload)
        except msgspec.ValidationError:
            self.fail(NexusError("invalid_message", "Invalid message format: expected an object"))
            return
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            self.fail(NexusError("invalid_json", "Invalid JSON message"))
            return
        kind, id_, command_id = found.answered(_OF_COMMANDS)
        if not isinstance(error, msgspec.ValidationError):
            # The probe skipped the member for which decoding the whole message failed.
            self.fail(NexusError("invalid_json", "Invalid JSON message"), id_, command_id)
        elif type(kind) is not str:
            self.fail(invalid("type", "expected a string"), id_)
        elif kind not in _TYPES:
            self.fail(NexusError("unknown_type", f"Unknown message type: {kind}"), id_)
        else:
            self.fail(misshapen(error), id_, command_id)

    # --- messages

    def _subscribe(self, message: messages.Subscribe) -> None:
        def ok(placed: Placed) -> None:
            positions = placed.positions
            self.send(
                messages.Subscribed(
                    events=message.events,
                    timestamp=self._dialect.timestamp(),
                    positions=None if positions is None else {name: place.text for name, place in positions.items()},
                    recovered=placed.recovered,
                    id=message.id,
                )
            )

        self._dialect.verbs.subscribe(
            self,
            self.principal,
            SubscribeRequest(message.events, message.filters, message.since),
            SubscribeReply(ok, self._failing(message.id)),
        )

    def _unsubscribe(self, message: messages.Unsubscribe) -> None:
        def ok() -> None:
            self.send(
                messages.Unsubscribed(events=message.events, timestamp=self._dialect.timestamp(), id=message.id)
            )

        self._dialect.verbs.unsubscribe(self, message.events, ok)

    def _ping(self, message: messages.Ping) -> None:
        self.send(messages.ServerPong(timestamp=self._dialect.timestamp(), id=message.id))

    def _pong(self, _message: messages.Pong) -> None:
        """Do nothing: the frame itself has shown that the client is alive."""

    def _publish(self, message: messages.Publish) -> None:
        def ok(position: Position | None) -> None:
            self.send(
                messages.Published(
                    event_type=message.event_type,
                    timestamp=self._dialect.timestamp(),
                    position=None if position is None else position.text,
                    id=message.id,
                )
            )

        payload = Payload.of_json(message.data, "data", self._dialect.depth)
        self._dialect.verbs.publish(
            self.principal, message.event_type, payload, ok, self._failing(message.id)
        )

    def _telemetry(self, message: messages.Telemetry) -> None:
        id_ = message.id
        if message.samples is not None or message.ack == "received":
            if message.samples:
                self._link.count(len(message.samples) - 1)
            take(self._dialect.verbs, self, message, self._dialect.timestamp)
            return
        metrics = metrics_of(message)
        ok: Callable[[int], None]
        if id_ is None:
            ok = self._acknowledge
        else:

            def ok(_millis: int) -> None:
                self.send(messages.TelemetryAck(timestamp=self._dialect.timestamp(), id=id_))

        self._dialect.verbs.submit(
            self, message.agent_id, metrics, message.timestamp, ok, self._failing(id_)
        )

    def _acknowledge(self, _millis: int) -> None:
        self._link.write(self._dialect.telemetry_ack())

    def _command(self, message: messages.Command) -> None:
        self._dialect.verbs.command(self, request_of(message), _Reply(self, message.id))

    def _cancel(self, message: messages.Cancel) -> None:
        self._dialect.verbs.cancel(self, message.command_id, _Reply(self, message.id))

    def _register(self, message: messages.Register) -> None:
        def ok() -> None:
            self.send(
                messages.Registered(commands=message.commands, timestamp=self._dialect.timestamp(), id=message.id)
            )

        self._dialect.verbs.register(self, message.commands, message.agent_id, ok, self._failing(message.id))

    def _unregister(self, message: messages.Unregister) -> None:
        self._dialect.verbs.unregister(self, message.commands)
        self.send(
            messages.Unregistered(commands=message.commands, timestamp=self._dialect.timestamp(), id=message.id)
        )

    def _progress(self, message: messages.Progress) -> None:
        self._dialect.verbs.progress(self, progress_of(message))

    def _result(self, message: messages.Result) -> None:
        self._dialect.verbs.result(self, answer_of(message))

    def _failing(self, id_: messages.Id) -> Callable[[NexusError], None]:
        return lambda error: self.fail(error, id_)


class _Reply:
    """Sends a command's replies to the caller's session, each with the `id` of the command."""

    __slots__ = ("_id", "_session")

    def __init__(self, session: JsonSession, id_: messages.Id) -> None:
        self._session = session
        self._id = id_

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reply) and other._session is self._session and other._id == self._id

    def __hash__(self) -> int:
        return hash((id(self._session), self._id))

    def affords(self, size: int) -> bool:
        return self._session._link.affords(size)

    def progress(self, progress: ProgressReport) -> None:
        self._session.send(progress_message(progress, self._id))

    def result(self, result: ResultReport) -> None:
        self._session.send(result_message(result, self._id))

    def error(self, error: NexusError, command_id: str) -> None:
        self._session.fail(error, self._id, command_id)


_HANDLERS: Final[dict[type, Callable[[JsonSession, Any], None]]] = {
    messages.Subscribe: JsonSession._subscribe,
    messages.Unsubscribe: JsonSession._unsubscribe,
    messages.Ping: JsonSession._ping,
    messages.Pong: JsonSession._pong,
    messages.Publish: JsonSession._publish,
    messages.Telemetry: JsonSession._telemetry,
    messages.Command: JsonSession._command,
    messages.Cancel: JsonSession._cancel,
    messages.Register: JsonSession._register,
    messages.Unregister: JsonSession._unregister,
    messages.Progress: JsonSession._progress,
    messages.Result: JsonSession._result,
}

# Messages that are never queued: they affect no other client, or answer another client's command, which must not wait for the
# sender's own requests.
_AT_ONCE: Final = frozenset((messages.Ping, messages.Pong, messages.Progress, messages.Result))

_TYPES: Final[dict[str, Any]] = {
    msgspec.inspect.type_info(kind).tag: kind for kind in _HANDLERS  # type: ignore[attr-defined]
}
_OF_COMMANDS: Final = frozenset(name for name, kind in _TYPES.items() if "command_id" in kind.__struct_fields__)
