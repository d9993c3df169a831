"""The typed messages of the JSON protocol, from clients and from the server.

Only this package uses them; the core works with the values of `nexus_tw.model`. A new message needs one class here and one
handler in `session`. Members that are only passed on stay `Raw`: the bytes as received.
The docstrings give the form on the wire, in camelCase; `?` marks optional members.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from nexus_tw.model.commands import EMPTY_OBJECT, NULL

Id = str | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None
Duration = Annotated[float, Meta(ge=0, le=86400)]  # seconds

NOTHING: Final = Raw(b"null")  # an absent member; a `null` that was sent is another object
LONGEST_ID: Final = 255  # characters of a `commandId`


# --- client to server ---------------------------------------------------------------------------------------------------


class ClientMessage(Struct, tag_field="type", rename="camel", kw_only=True, gc=False):
    """`{type, id?}`: every reply to a message carries its `id`. Unknown members are ignored."""

    id: Id = None


class Subscribe(ClientMessage, tag="subscribe"):
    """`{events: [TYPE or PATTERN, ..], filters?: {NAME: CONDITION}, since?: {TYPE: POSITION}}`."""

    events: list[str]
    filters: dict[str, Any] | None = None
    since: dict[str, str] | None = None


class Unsubscribe(ClientMessage, tag="unsubscribe"):
    """`{events: [TYPE or PATTERN, ..]}`."""

    events: list[str]


class Ping(ClientMessage, tag="ping"):
    """`{}`; answered by `pong`."""


class Pong(ClientMessage, tag="pong"):
    """`{}`; the answer to the server's `ping`."""


class Publish(ClientMessage, tag="publish"):
    """`{eventType, data}`."""

    event_type: str
    data: Raw


class TelemetrySample(Struct, gc=False):
    timestamp: str
    metrics: Raw
    id: str | None = None


class Telemetry(ClientMessage, tag="telemetry"):
    """`{agentId, metrics: {NAME: number, boolean, string or object of these}, timestamp?, ack?: stored or received}`, or with
    `samples: [{timestamp, metrics, id?}, ..]` instead of `metrics` and `timestamp`."""

    agent_id: str
    metrics: Raw = NOTHING
    timestamp: str | None = None
    samples: list[TelemetrySample] | None = None
    ack: Literal["stored", "received"] = "stored"


class Command(ClientMessage, tag="command"):
    """`{command, parameters?, target?: AGENT or [AGENT, ..], commandId?, timeout?: s, ttl?: s, retries?}`."""

    command: str
    parameters: Raw = EMPTY_OBJECT
    target: str | list[str] | None = None
    command_id: Annotated[str, Meta(min_length=1, max_length=LONGEST_ID)] | None = None
    timeout: Annotated[float, Meta(gt=0, le=86400)] = 30.0
    ttl: Duration = 0.0
    retries: Annotated[int, Meta(ge=0, le=100)] = 0


class Cancel(ClientMessage, tag="cancel"):
    """`{commandId}`."""

    command_id: str


class Register(ClientMessage, tag="register"):
    """`{commands: [NAME, ..], agentId?}`: the commands that this client executes."""

    commands: list[str]
    agent_id: str | None = None


class Unregister(ClientMessage, tag="unregister"):
    """`{commands: [NAME, ..]}`."""

    commands: list[str]


class Progress(ClientMessage, tag="command_progress"):
    """`{commandId, data, agentId?}`, from the executing agent; with `agentId` if the connection represents several."""

    command_id: str
    data: Raw = NULL
    agent_id: str | None = None


class Result(ClientMessage, tag="command_result"):
    """`{commandId, data?, status?: success or error, message?, agentId?}`, from the agent that executed it.

    With `agentId` if the connection represents several; without it the result is for the oldest execution of that command on
    this connection.
    """

    command_id: str
    data: Raw = NULL
    status: Literal["success", "error"] = "success"
    message: str | None = None
    agent_id: str | None = None


# --- server to client ---------------------------------------------------------------------------------------------------


class ServerMessage(Struct, tag_field="type", rename="camel", kw_only=True, omit_defaults=True, gc=False):
    """`{type, id?}`. Timestamps are UTC, ISO 8601 with milliseconds and `Z`."""

    id: Id = None


class HeartbeatTimes(Struct, gc=False):
    interval: float
    timeout: float


class ConnectionLimits(Struct, gc=False):
    message: int
    subscriptions: int
    registrations: int
    rate: int


class User(Struct, gc=False):
    subject: str
    role: str


class Reconnect(Struct, gc=False):
    delay: int


class Connected(ServerMessage, tag="connected"):
    """`{clientId, timestamp, message, heartbeat: {interval, timeout} s, limits, user, reconnect: {delay: ms}}`."""

    client_id: str
    timestamp: str
    message: str
    heartbeat: HeartbeatTimes
    limits: ConnectionLimits
    user: User
    reconnect: Reconnect


class Subscribed(ServerMessage, tag="subscribed"):
    """`{events, timestamp, positions?: {TYPE: POSITION}, recovered?: {TYPE: bool}}`: `positions` if there is history,
    `recovered` if `since` was given."""

    events: list[str]
    timestamp: str
    positions: dict[str, str] | None = None
    recovered: dict[str, bool] | None = None


class Unsubscribed(ServerMessage, tag="unsubscribed"):
    """`{events, timestamp}`."""

    events: list[str]
    timestamp: str


class Event(ServerMessage, tag="event"):
    """`{eventType, data, position?}`; `position` where the type has history."""

    event_type: str
    data: Raw
    position: str | None = None


class ServerPing(ServerMessage, tag="ping"):
    """`{delay?: ms}`; any frame answers it. With `delay` after that of `connected.reconnect` has changed."""

    delay: int | None = None


class ServerPong(ServerMessage, tag="pong"):
    """`{timestamp}`."""

    timestamp: str


class Published(ServerMessage, tag="published"):
    """`{eventType, timestamp, position?}`; `position` where the type has history."""

    event_type: str
    timestamp: str
    position: str | None = None


class TelemetryAck(ServerMessage, tag="telemetry_ack"):
    """`{timestamp, stored?, duplicates?}`: the samples are committed and synced, or with `ack: received` accepted. With the
    counts if there were several samples, and they are committed."""

    timestamp: str
    stored: int | None = None
    duplicates: int | None = None


class CommandInvocation(ServerMessage, tag="command"):
    """`{commandId, command, parameters, caller, deadline, attempt, agentId?}`, to the agent that is to execute it.

    With `agentId` only if the connection executes commands for several agents.
    """

    command_id: str
    command: str
    parameters: Raw
    caller: str
    deadline: str
    attempt: int
    agent_id: str | None = None


class CommandCancel(ServerMessage, tag="command_cancel"):
    """`{commandId, reason: cancelled or timeout}`, to the agent that executes it."""

    command_id: str
    reason: Literal["cancelled", "timeout"]


class CommandProgress(ServerMessage, tag="command_progress"):
    """`{commandId, agentId?, data}`, to the caller; without `agentId` if the server itself executes the command."""

    command_id: str
    data: Raw
    agent_id: str | None = None


class Executed(Struct, rename="camel", gc=False):
    """The data of a result, in the guide's form; `result` is the handler's or agent's."""

    command_id: str
    command: str
    result: Raw
    status: str = "executed"


class AgentOutcome(Struct, rename="camel", omit_defaults=True, gc=False):
    agent_id: str
    status: Literal["success", "error"]
    result: Raw | UnsetType = UNSET
    message: str | None = None
    code: str | None = None


class ExecutedByAll(Struct, rename="camel", gc=False):
    command_id: str
    command: str
    results: list[AgentOutcome]
    status: str = "executed"


class CommandResult(ServerMessage, tag="command_result"):
    """`{commandId, status, data: {commandId, command, status: executed, result}}`, to the caller.

    For a list of targets, one for each agent (with `agentId`; `status: error`, `code` and `message` if it failed), then one
    whose `data.results` is `[{agentId, status, result or message, code}]`.
    """

    command_id: str
    status: Literal["success", "error"]
    agent_id: str | None = None
    data: Raw | UnsetType = UNSET  # JSON of `Executed` or `ExecutedByAll`, encoded once for all recipients
    code: str | None = None
    message: str | None = None


class Registered(ServerMessage, tag="registered"):
    """`{commands, timestamp}`."""

    commands: list[str]
    timestamp: str


class Unregistered(ServerMessage, tag="unregistered"):
    """`{commands, timestamp}`."""

    commands: list[str]
    timestamp: str


class Broadcast(ServerMessage, tag="broadcast"):
    """`{data, timestamp}`: from an administrator to all clients."""

    data: Raw
    timestamp: str


class Continuity(ServerMessage, tag="continuity"):
    """`{eventType, position?, recovered}`: earlier events of this type (or pattern) may be missing, or with
    `recovered: true` are not; later ones are complete."""

    event_type: str
    recovered: bool
    position: str | None = None


class Error(ServerMessage, tag="error"):
    """`{message, timestamp, code, retryable, commandId?}`."""

    message: str
    timestamp: str
    code: str
    retryable: bool
    command_id: str | None = None


class Disconnect(ServerMessage, tag="disconnect"):
    """`{code, reason, reconnect, delay: ms}`: sent before a deliberate close."""

    code: int
    reason: str
    reconnect: bool
    delay: int
